# What the allocator may do. The policies are files, so that whoever runs LabLink
# elsewhere gives it the same rights.

resource "aws_iam_role" "allocator" {
  name = "lablink_instance_role_${local.env}"
  tags = merge(local.tags, { Name = "lablink_instance_role_${local.env}" })

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ec2.amazonaws.com" }
    }]
  })
}

resource "aws_iam_role_policy" "vms" {
  name   = "lablink_ec2_vm_management_${local.env}"
  role   = aws_iam_role.allocator.name
  policy = file("${path.module}/allocator-policy.json")
}

resource "aws_iam_role_policy" "state" {
  count = local.bucket == "" ? 0 : 1

  name   = "lablink_s3_backend_${local.env}"
  role   = aws_iam_role.allocator.name
  policy = replace(file("${path.module}/state-policy.json"), "BUCKET", local.bucket)
}

locals {
  downloads = [for url in [var.lablink.url, var.opentofu.url] : trimprefix(url, "s3://") if startswith(url, "s3://")]
}

resource "aws_iam_role_policy" "downloads" {
  count = length(local.downloads) > 0 ? 1 : 0

  name = "lablink_downloads_${local.env}"
  role = aws_iam_role.allocator.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = "s3:GetObject"
      Resource = [for object in local.downloads : "arn:${data.aws_partition.current.partition}:s3:::${object}"]
    }]
  })
}

resource "aws_iam_role_policy_attachment" "session_manager" {
  count = var.session_manager ? 1 : 0

  role       = aws_iam_role.allocator.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/AmazonSSMManagedInstanceCore"
}

resource "aws_iam_instance_profile" "allocator" {
  name = "lablink_instance_profile_${local.env}"
  role = aws_iam_role.allocator.name
  tags = merge(local.tags, { Name = "lablink_instance_profile_${local.env}" })
}
