# What the configuration file says about AWS. Keys are read as in the Python
# system's template.

locals {
  config_text = file(var.config_file)
  config      = yamldecode(local.config_text)

  env         = var.resource_suffix
  region      = try(coalesce(local.config.app.region), "us-west-2")
  bucket      = try(coalesce(local.config.bucket_name), "")
  listen      = try(coalesce(local.config.listen), ":80")
  eip_name    = "${try(coalesce(local.config.eip.tag_name), "lablink-eip")}-${local.env}"
  eip_dynamic = try(coalesce(local.config.eip.strategy), "dynamic") == "dynamic"
  has_dns     = try(tobool(local.config.dns.enabled), false)

  startup_script = (
    try(tobool(local.config.startup_script.enabled), false)
    ? file("${dirname(var.config_file)}/${basename(local.config.startup_script.path)}")
    : ""
  )

  public_url = trimsuffix(coalesce(try(local.config.server.public_url, ""), var.public_url, "http://${local.public_ip}"), "/")

  # Of the VMs. The client module makes it, with its subscription.
  log_group = "lablink-cloud-init-${local.env}"

  tags = {
    Environment = local.env
    Project     = "lablink"
  }
}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

# The secret that the log processor shows to the allocator. Terraform keeps it in
# its state, where everybody who reads the state finds it.
resource "terraform_data" "processor_token" {
  input = sensitive(sha256("${uuid()}${uuid()}${uuid()}"))

  lifecycle {
    ignore_changes = [input] # uuid() is another one each time
  }
}

locals {
  processor_token = sensitive(terraform_data.processor_token.output)
}
