locals {
  addresses = {
    for hostname, vm in aws_instance.lablink_vm : hostname =>
    try(coalesce(try(aws_eip.lablink_vm[hostname].public_ip, ""), vm.public_ip, vm.private_ip), "")
  }
}

output "vms" {
  description = "What EC2 calls each VM, and where it is."
  value = {
    for hostname, vm in aws_instance.lablink_vm : hostname => { id = vm.id, address = local.addresses[hostname] }
  }
}

# Lists in one order, by which scripts find the VMs.

output "vm_instance_ids" {
  description = "EC2's ids of the VMs."
  value       = [for hostname, vm in aws_instance.lablink_vm : vm.id]
}

output "vm_public_ips" {
  description = "Addresses of the VMs."
  value       = [for hostname, vm in aws_instance.lablink_vm : local.addresses[hostname]]
}

output "vm_instance_names" {
  description = "Hostnames of the VMs."
  value       = [for hostname, vm in aws_instance.lablink_vm : hostname]
}
