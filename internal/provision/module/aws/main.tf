# VMs on Amazon EC2. Each runs boot/boot.sh at its first boot, which starts the
# client container.

locals {
  tags = {
    Environment           = var.environment
    "lablink:environment" = var.environment
    "lablink:fleet"       = var.fleet
  }
  vm_tags = {
    for hostname in keys(var.vms) : hostname => merge(local.tags, {
      Name                = hostname
      "lablink:hostname"  = hostname
      "lablink:operation" = var.operation
    })
  }

  # Hostnames are no secret, unlike the tokens whose keys they are.
  making = toset([for hostname in nonsensitive(keys(var.tokens)) : hostname if contains(keys(var.vms), hostname)])
}

module "boot" {
  source   = "./boot"
  for_each = local.making

  hostname         = each.key
  token            = var.tokens[each.key]
  allocator_url    = var.allocator_url
  image            = var.image
  repository       = var.repository
  software         = var.software
  gpu              = var.vms[each.key].gpu
  region           = var.region
  log_group        = var.log_group
  ship_logs        = var.create_log_group && var.log_processor_arn == "" # else somebody brings them from CloudWatch
  startup_script   = var.startup_script
  startup_on_error = var.startup_on_error
}

resource "aws_instance" "lablink_vm" {
  for_each = var.vms

  # A VM that exists comes without an image, which Terraform would take for a mistake.
  ami           = each.value.ami_id == "" ? "ami-unchanged" : each.value.ami_id
  instance_type = each.value.instance_type

  subnet_id                   = each.value.subnet_id == "" ? null : each.value.subnet_id
  associate_public_ip_address = true
  vpc_security_group_ids      = [aws_security_group.lablink.id]
  key_name                    = one(aws_key_pair.lablink[*].key_name)
  iam_instance_profile        = aws_iam_instance_profile.lablink.name

  user_data_base64            = contains(local.making, each.key) ? module.boot[each.key].user_data_base64 : null
  user_data_replace_on_change = false

  # Version 2 alone, and no further than this machine: what a web page or another
  # container makes the VM fetch gets no credentials.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_type           = "gp3"
    volume_size           = var.disk_gb
    encrypted             = true
    delete_on_termination = true
    tags                  = local.vm_tags[each.key]
  }

  tags = local.vm_tags[each.key]

  # The container's first lines would find no place to go.
  depends_on = [aws_cloudwatch_log_group.lablink, aws_iam_role_policy.lablink]

  # A later launch never touches an older VM, whatever has changed meanwhile.
  lifecycle {
    ignore_changes = all
  }
}

resource "aws_eip" "lablink_vm" {
  for_each = var.elastic_ips ? var.vms : {}

  domain   = "vpc"
  instance = aws_instance.lablink_vm[each.key].id
  tags     = local.vm_tags[each.key]

  lifecycle {
    ignore_changes = all
  }
}
