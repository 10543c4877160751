output "ec2_public_ip" {
  description = "Address of the allocator."
  value       = local.public_ip
}

output "ec2_key_name" {
  description = "Name of the key pair that may log in to the allocator by SSH; empty if there is none."
  value       = var.ssh_public_key == "" ? "" : aws_key_pair.allocator[0].key_name
}

output "allocator_fqdn" {
  description = "Name of the allocator, or its address if it has none."
  value       = regex("^https?://([^:/]+)", local.public_url)[0]
}

output "allocator_url" {
  description = "Where VMs and participants reach the allocator."
  value       = local.public_url
}

output "allocator_instance_type" {
  description = "EC2 instance type of the allocator."
  value       = aws_instance.lablink_allocator_server.instance_type
}

output "allocator_instance_id" {
  description = "EC2's id of the allocator."
  value       = aws_instance.lablink_allocator_server.id
}

output "log_processor_arn" {
  description = "The log processor, as the allocator knows it (aws.log_processor_arn)."
  value       = aws_lambda_function.log_processor.arn
}

output "undelivered_logs_url" {
  description = "The queue of what the log processor could not deliver."
  value       = aws_sqs_queue.undelivered.url
}
