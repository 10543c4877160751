# What LabLink itself needs to know is in its configuration file, from which some
# of it is read here, too: see config.tf.

variable "resource_suffix" {
  description = "Name of the environment. It is part of all names, so that several LabLinks can be in one account."
  type        = string
  default     = "prod"

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9_-]{0,24}$", var.resource_suffix))
    error_message = "resource_suffix becomes part of names, of which some are short: use up to 25 of a-z, 0-9, _ and -."
  }
}

variable "config_file" {
  description = "LabLink's configuration file."
  type        = string
  default     = "config/config.yaml"
}

variable "lablink" {
  description = "The program lablink for the allocator: where it is (https://... or s3://BUCKET/KEY), and the SHA-256 of the file."
  type        = object({ url = string, sha256 = string })

  validation {
    condition     = can(regex("^(https|s3)://[^/ ]+/[^ ]+$", var.lablink.url)) && can(regex("^[0-9a-f]{64}$", var.lablink.sha256))
    error_message = "lablink.url must begin with https:// or s3://, and lablink.sha256 have 64 of 0-9 and a-f."
  }
}

variable "opentofu" {
  description = "OpenTofu, by which the allocator makes VMs: where its release for linux_amd64 is (a zip file), and the SHA-256 of that."
  type        = object({ url = string, sha256 = string })

  validation {
    condition     = can(regex("^(https|s3)://[^/ ]+/[^ ]+[.]zip$", var.opentofu.url)) && can(regex("^[0-9a-f]{64}$", var.opentofu.sha256))
    error_message = "opentofu.url must begin with https:// or s3:// and end with .zip, and opentofu.sha256 have 64 of 0-9 and a-f."
  }
}

variable "log_processor" {
  description = "Zip file of the log processor, as make logproc builds it."
  type        = string
  default     = "../../bin/lablink-logproc-arm64.zip"

  validation {
    condition     = can(regex("-(arm64|amd64)[.]zip$", var.log_processor))
    error_message = "log_processor must be lablink-logproc-arm64.zip or lablink-logproc-amd64.zip."
  }
}

variable "subnet_id" {
  description = "Subnet of the allocator, which must be public. It decides in which zone its data is."
  type        = string
}

variable "instance_type" {
  description = "EC2 instance type of the allocator, with an Intel or AMD processor."
  type        = string
  default     = "t3.large"
}

variable "ami_id" {
  description = "Machine image of the allocator, an Ubuntu 24.04. Empty: the newest of Canonical's, when the allocator is made."
  type        = string
  default     = ""
}

variable "data_gb" {
  description = "Size of the volume that holds the database, in GiB. It can grow, and never shrinks."
  type        = number
  default     = 30

  validation {
    condition     = var.data_gb >= 8 && floor(var.data_gb) == var.data_gb
    error_message = "The volume must have a whole number of GiB, at least 8."
  }
}

variable "public_url" {
  description = "Address of the allocator for VMs and participants, if server.public_url is not configured. Empty: http:// and its Elastic IP."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(https?://[^/?#]+)?$", var.public_url))
    error_message = "public_url must be such as https://lablink.example.org."
  }
}

variable "web_from" {
  description = "Networks from which ports 80 and 443 can be reached: participants, VMs and the log processor come from anywhere."
  type        = list(string)
  default     = ["0.0.0.0/0", "::/0"]

  validation {
    condition     = alltrue([for network in var.web_from : can(cidrhost(network, 0))])
    error_message = "web_from must hold networks such as 192.0.2.0/24."
  }
}

variable "ssh_from" {
  description = "Networks from which the allocator can be reached by SSH."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for network in var.ssh_from : can(cidrhost(network, 0))])
    error_message = "ssh_from must hold networks such as 192.0.2.0/24."
  }
}

variable "ssh_public_key" {
  description = "Public key that may log in to the allocator by SSH. Empty: none. The private key stays with its owner."
  type        = string
  default     = ""
}

variable "session_manager" {
  description = "Whether AWS Systems Manager may open a shell on the allocator. Its policy lets the allocator read all parameters of the account."
  type        = bool
  default     = false
}
