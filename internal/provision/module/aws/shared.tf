# What the VMs of a fleet share.

locals {
  # Ports by the networks from which they are open. Whoever comes by Chrome Remote
  # Desktop needs none: the VM calls Google.
  open = [
    { port = 22, from = var.ssh_from, what = "SSH" },
    { port = 3389, from = var.rdp_from, what = "RDP" },
  ]
}

resource "aws_security_group" "lablink" {
  name        = "lablink_client_${var.environment}_sg"
  description = "Client VMs of LabLink"
  vpc_id      = var.vpc_id
  tags        = merge(local.tags, { Name = "lablink_client_${var.environment}_sg" })

  # Rules as attributes, not as blocks: a change is made in place, and an empty list
  # closes all ports, where no block at all would leave what is open.
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

# EC2 does not tell the public key of a pair that is imported, which would thus be
# replaced. So the name tells of which key it is, and that alone counts.
resource "aws_key_pair" "lablink" {
  count = var.ssh_public_key == "" ? 0 : 1

  key_name   = "lablink_key_pair_client_${var.environment}_${substr(sha256(var.ssh_public_key), 0, 8)}"
  public_key = var.ssh_public_key
  tags       = merge(local.tags, { Name = "lablink_key_pair_client_${var.environment}_${substr(sha256(var.ssh_public_key), 0, 8)}" })

  lifecycle {
    ignore_changes = [public_key]
  }
}

resource "aws_iam_role" "lablink" {
  name = "lablink_cloud_watch_agent_role_${var.environment}"
  tags = merge(local.tags, { Name = "lablink_cloud_watch_agent_role_${var.environment}" })

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ec2.amazonaws.com" }
    }]
  })
}

data "aws_partition" "current" {}

data "aws_caller_identity" "current" {}

locals {
  log_group_arn = join(":", [
    "arn", data.aws_partition.current.partition, "logs", var.region, data.aws_caller_identity.current.account_id, "log-group", var.log_group,
  ])
}

# Participants are root on these machines, so whatever the role may do, they may.
# Amazon's CloudWatchAgentServerPolicy would let them read and write every log
# group and many parameters of the account; writing their own log is enough.
resource "aws_iam_role_policy" "lablink" {
  name = "lablink_cloud_watch_agent_role_${var.environment}"
  role = aws_iam_role.lablink.name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"]
      Resource = [local.log_group_arn, "${local.log_group_arn}:*"]
    }]
  })
}

resource "aws_iam_instance_profile" "lablink" {
  name = "lablink_client_instance_profile_${var.environment}"
  role = aws_iam_role.lablink.name
  tags = merge(local.tags, { Name = "lablink_client_instance_profile_${var.environment}" })
}

resource "aws_cloudwatch_log_group" "lablink" {
  count = var.create_log_group ? 1 : 0

  name              = var.log_group
  retention_in_days = 7 # LabLink keeps its own copy
  tags              = merge(local.tags, { Name = var.log_group })
}

resource "aws_cloudwatch_log_subscription_filter" "lablink" {
  count = var.create_log_group && var.log_processor_arn != "" ? 1 : 0

  name            = "lablink_lambda_subscription_${var.environment}"
  log_group_name  = aws_cloudwatch_log_group.lablink[0].name
  filter_pattern  = "" # everything
  destination_arn = var.log_processor_arn
}
