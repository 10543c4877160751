terraform {
  required_version = ">= 1.6"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.25"
    }
  }
}

# Credentials come from the environment.
provider "aws" {
  region = var.region

  # The provider takes a lack of capacity for a passing trouble. With its usual 25
  # tries it waits for the better part of an hour, instead of letting LabLink turn to
  # the next zone: https://github.com/hashicorp/terraform-provider-aws/issues/43193.
  max_retries = 6
}
