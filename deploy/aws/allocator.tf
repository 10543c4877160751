# The machine of the allocator, its address and its data.

data "aws_subnet" "allocator" {
  id = var.subnet_id
}

data "aws_ami" "ubuntu" {
  count = var.ami_id == "" ? 1 : 0

  owners      = ["099720109477"] # Canonical
  most_recent = true

  filter {
    name   = "name"
    values = ["ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-*"]
  }
}

locals {
  # A script in single quotes remains text, whatever is in it.
  settings = {
    SETUP_VOLUME          = aws_ebs_volume.data.id
    SETUP_REGION          = local.region
    SETUP_LABLINK_URL     = var.lablink.url
    SETUP_LABLINK_SHA256  = var.lablink.sha256
    SETUP_OPENTOFU_URL    = var.opentofu.url
    SETUP_OPENTOFU_SHA256 = var.opentofu.sha256
    SETUP_LISTEN          = local.listen
    SETUP_UNIT            = file("${path.module}/../lablink.service")
    SETUP_CONFIG          = local.config_text
    SETUP_STARTUP_SCRIPT  = local.startup_script
    SETUP_ENVIRONMENT = join("", [for name, value in {
      ENVIRONMENT                   = local.env
      AWS_REGION                    = local.region
      ALLOCATOR_PUBLIC_IP           = local.public_ip
      LABLINK_PROVIDER              = "aws"
      LABLINK_APP_REGION            = local.region
      LABLINK_LISTEN                = local.listen
      LABLINK_SERVER_PUBLIC_URL     = local.public_url
      LABLINK_AWS_LOG_PROCESSOR_ARN = aws_lambda_function.log_processor.arn
      LABLINK_LOGS_PROCESSOR_TOKEN  = local.processor_token
    } : "${name}=${value}\n"])
  }
  user_data_base64 = sensitive(base64gzip(join("\n", concat(
    ["#!/bin/bash"],
    [for name, value in local.settings : "${name}='${replace(value, "'", "'\\''")}'"],
    [file("${path.module}/setup.sh")],
  ))))

  # Known before anything is made, unlike addresses and the token, for which there is some room.
  user_data_room = 16384 - 1024
  user_data_size = ceil(length(base64gzip(join("", [
    file("${path.module}/setup.sh"), file("${path.module}/../lablink.service"), local.config_text, local.startup_script,
  ]))) * 3 / 4)
}

# Its data is elsewhere, so it can be replaced at any time: a change of the
# configuration or of the program makes a new one.
resource "aws_instance" "lablink_allocator_server" {
  ami           = var.ami_id == "" ? data.aws_ami.ubuntu[0].id : var.ami_id
  instance_type = var.instance_type

  subnet_id                   = var.subnet_id
  associate_public_ip_address = true # until it has the other one
  vpc_security_group_ids      = [aws_security_group.allocator.id]
  key_name                    = one(aws_key_pair.allocator[*].key_name)
  iam_instance_profile        = aws_iam_instance_profile.allocator.name

  user_data_base64            = local.user_data_base64
  user_data_replace_on_change = true

  # Version 2 alone, and no further than this machine: LabLink runs on it in no container.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_type           = "gp3"
    volume_size           = 20
    encrypted             = true
    delete_on_termination = true
    tags                  = merge(local.tags, { Name = "lablink_allocator_server_${local.env}" })
  }

  tags = merge(local.tags, { Name = "lablink_allocator_server_${local.env}" })

  lifecycle {
    ignore_changes = [ami] # Canonical's next image is no reason to replace it

    precondition {
      condition     = local.user_data_size <= local.user_data_room
      error_message = "What the allocator is set up with takes ${local.user_data_size} bytes, compressed, and there is room for ${local.user_data_room}: shorten the configuration or the startup script."
    }
    precondition {
      condition     = var.ssh_public_key != "" || var.session_manager
      error_message = "Nobody could log in to the allocator to read the admin's password: set ssh_public_key, or session_manager."
    }
    precondition {
      condition     = !local.has_dns || try(local.config.server.public_url, "") != "" || var.public_url != ""
      error_message = "The name and its certificate are not made here: set public_url to the address that the allocator will have, and make its DNS record of ec2_public_ip."
    }
  }
}

resource "aws_ebs_volume" "data" {
  availability_zone = data.aws_subnet.allocator.availability_zone
  type              = "gp3"
  size              = var.data_gb
  encrypted         = true
  tags              = merge(local.tags, { Name = "lablink_data_${local.env}" })

  # The database: seats, logs, and Terraform's state of the VMs.
  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_volume_attachment" "data" {
  device_name                    = "/dev/sdf"
  volume_id                      = aws_ebs_volume.data.id
  instance_id                    = aws_instance.lablink_allocator_server.id
  stop_instance_before_detaching = true # so that PostgreSQL ends in order
}

# dynamic: an address that lives as long as all this. persistent: one that is there
# already, with these tags, so that a DNS record for it stays true.

resource "aws_eip" "allocator" {
  count = local.eip_dynamic ? 1 : 0

  domain = "vpc"
  tags   = merge(local.tags, { Name = local.eip_name })
}

data "aws_eip" "allocator" {
  count = local.eip_dynamic ? 0 : 1

  filter {
    name   = "tag:Name"
    values = [local.eip_name]
  }
  filter {
    name   = "tag:Environment"
    values = [local.env]
  }
}

locals {
  public_ip     = one(concat(aws_eip.allocator[*].public_ip, data.aws_eip.allocator[*].public_ip))
  allocation_id = one(concat(aws_eip.allocator[*].id, data.aws_eip.allocator[*].id))
}

resource "aws_eip_association" "allocator" {
  allocation_id = local.allocation_id
  instance_id   = aws_instance.lablink_allocator_server.id
}

resource "aws_key_pair" "allocator" {
  count = var.ssh_public_key == "" ? 0 : 1

  key_name   = "lablink-key-${local.env}"
  public_key = var.ssh_public_key
  tags       = merge(local.tags, { Name = "lablink-key-${local.env}" })
}

locals {
  open = [
    { port = 80, from = var.web_from, what = "HTTP" },
    { port = 443, from = var.web_from, what = "HTTPS" },
    { port = 22, from = var.ssh_from, what = "SSH" },
  ]
}

resource "aws_security_group" "allocator" {
  name        = "allow_http_https_${local.env}"
  description = "Allocator of LabLink"
  vpc_id      = data.aws_subnet.allocator.vpc_id
  tags        = merge(local.tags, { Name = "allow_http_https_${local.env}" })

  ingress = [for rule in local.open : {
    description      = rule.what
    protocol         = "tcp"
    from_port        = rule.port
    to_port          = rule.port
    cidr_blocks      = [for network in rule.from : cidrsubnet(network, 0, 0) if !strcontains(network, ":")]
    ipv6_cidr_blocks = [for network in rule.from : cidrsubnet(network, 0, 0) if strcontains(network, ":")]
    prefix_list_ids  = []
    security_groups  = []
    self             = false
  } if length(rule.from) > 0]

  egress = [{
    description      = "Anywhere"
    protocol         = "-1"
    from_port        = 0
    to_port          = 0
    cidr_blocks      = ["0.0.0.0/0"]
    ipv6_cidr_blocks = ["::/0"]
    prefix_list_ids  = []
    security_groups  = []
    self             = false
  }]
}
