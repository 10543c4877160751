# Everything that the stand-in for hashicorp/aws knows.

terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
}

provider "aws" {
  region = "us-west-2"
}

variable "hostnames" { type = set(string) }
variable "subnet" { type = string }
variable "vpc" { type = string }
variable "destination" { type = string }
variable "owner" {
  type    = string
  default = "one"
}
variable "days" {
  type    = number
  default = 7
}
variable "ports" {
  type    = list(number)
  default = [22]
}
variable "type" {
  type    = string
  default = "t3.micro"
}
variable "script" {
  type    = string
  default = "#!/bin/sh"
}
variable "replace" {
  type    = bool
  default = false
}

data "aws_partition" "current" {}
data "aws_caller_identity" "current" {}

locals {
  tags = { Owner = var.owner }
}

resource "aws_security_group" "vm" {
  name        = "lablink-sg"
  description = "Of a test"
  vpc_id      = var.vpc
  tags        = local.tags

  dynamic "ingress" {
    for_each = var.ports
    content {
      description = "From the inside"
      protocol    = "tcp"
      from_port   = ingress.value
      to_port     = ingress.value
      cidr_blocks = ["10.0.0.0/8", "192.168.0.0/16"]
      self        = true
    }
  }

  egress = [{
    description      = ""
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

resource "aws_key_pair" "vm" {
  key_name   = "lablink-key"
  public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHKn0+BVRdHKL4rFtZtqQ9PBzOC1qkN0TgqUT0V0sP5y somebody"
  tags       = local.tags
}

resource "aws_iam_role" "vm" {
  name               = "lablink-role"
  assume_role_policy = jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "ec2.amazonaws.com" } }] })
  tags               = local.tags
}

resource "aws_iam_role_policy" "vm" {
  name   = "lablink-policy"
  role   = aws_iam_role.vm.name
  policy = jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Action = ["logs:PutLogEvents"], Resource = "*" }] })
}

resource "aws_iam_instance_profile" "vm" {
  name = "lablink-profile"
  role = aws_iam_role.vm.name
  tags = local.tags
}

resource "aws_cloudwatch_log_group" "vm" {
  name              = "/lablink/vm"
  retention_in_days = var.days
  tags              = local.tags
}

resource "aws_cloudwatch_log_subscription_filter" "vm" {
  name            = "lablink-filter"
  log_group_name  = aws_cloudwatch_log_group.vm.name
  filter_pattern  = ""
  destination_arn = var.destination
}

resource "aws_instance" "vm" {
  for_each = var.hostnames

  ami                         = "ami-0aaaaaaaaaaaaaa02"
  instance_type               = var.type
  subnet_id                   = var.subnet
  vpc_security_group_ids      = [aws_security_group.vm.id]
  iam_instance_profile        = aws_iam_instance_profile.vm.name
  key_name                    = aws_key_pair.vm.key_name
  associate_public_ip_address = true
  user_data_base64            = base64encode(var.script)
  user_data_replace_on_change = var.replace

  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 2
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = 40
    encrypted   = true
    tags        = { Name = each.key }
  }

  tags = merge(local.tags, { Name = each.key, "lablink:hostname" = each.key })
}

resource "aws_eip" "vm" {
  for_each = var.hostnames

  domain   = "vpc"
  instance = aws_instance.vm[each.key].id
  tags     = { "lablink:hostname" = each.key }
}

output "vms" {
  value = { for name, vm in aws_instance.vm : name => { id = vm.id, address = aws_eip.vm[name].public_ip, zone = vm.availability_zone } }
}

output "account" {
  value = data.aws_caller_identity.current.account_id
}
