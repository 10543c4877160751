variable "vms" {
  description = "The VMs that shall exist, by hostname. What a VM is made of counts only until it is made; later it may be empty."
  type = map(object({
    instance_type = string
    subnet_id     = optional(string, "")
    ami_id        = optional(string, "")
    gpu           = optional(bool, false)
  }))
}

variable "tokens" {
  description = "The credential of each VM that is about to be made, by hostname."
  type        = map(string)
  sensitive   = true
}

variable "operation" {
  description = "The operation that makes VMs now, as their tag."
  type        = string
  default     = ""
}

variable "fleet" {
  description = "Id of the LabLink database that knows these VMs: fleets of several in one account are told apart by it."
  type        = string

  validation {
    condition     = length(var.fleet) > 0
    error_message = "Without a fleet's id, LabLink could not find its VMs again."
  }
}

variable "environment" {
  description = "Name of the environment, such as prod. It is part of the names of all that the VMs share."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9_.-]{0,31}$", var.environment))
    error_message = "The environment becomes part of the names of IAM roles: use up to 32 of a-z, 0-9, _, . and -."
  }
}

variable "region" {
  description = "AWS region in which everything is."
  type        = string
}

variable "vpc_id" {
  description = "VPC of the security group, and so of all subnets."
  type        = string
}

variable "allocator_url" {
  description = "Where the VMs call: a scheme and a host, perhaps a port."
  type        = string

  validation {
    condition     = can(regex("^https?://[^/?#]+/?$", var.allocator_url))
    error_message = "The allocator's address must be such as https://lablink.example.org."
  }
}

variable "image" {
  description = "Container image of the client."
  type        = string

  validation {
    condition     = length(var.image) > 0
    error_message = "There must be a container image for the VMs to run: set machine.image."
  }
}

variable "repository" {
  description = "Git URL that is cloned onto the desktop. Empty: none."
  type        = string
}

variable "software" {
  description = "Report whether a process with this text in its arguments runs. Empty: do not."
  type        = string
}

variable "startup_script" {
  description = "Content of the script that the client container runs when it starts. Empty: none."
  type        = string
}

variable "startup_on_error" {
  description = "What a startup script that fails does to the VM: continue or fail."
  type        = string

  validation {
    condition     = contains(["continue", "fail"], var.startup_on_error)
    error_message = "startup_on_error must be continue or fail."
  }
}

variable "disk_gb" {
  description = "Size of a VM's disk, in GiB."
  type        = number

  validation {
    condition     = var.disk_gb >= 8 && floor(var.disk_gb) == var.disk_gb
    error_message = "A VM's disk must have a whole number of GiB, at least 8."
  }
}

variable "ssh_from" {
  description = "Networks from which VMs can be reached by SSH."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for network in var.ssh_from : can(cidrhost(network, 0))])
    error_message = "ssh_from must hold networks such as 192.0.2.0/24."
  }
}

variable "rdp_from" {
  description = "Networks from which VMs can be reached by RDP."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for network in var.rdp_from : can(cidrhost(network, 0))])
    error_message = "rdp_from must hold networks such as 192.0.2.0/24."
  }
}

variable "ssh_public_key" {
  description = "Public key that may log in to the VMs by SSH. Empty: none. The private key stays with its owner."
  type        = string
  default     = ""
}

variable "elastic_ips" {
  description = "Whether each VM gets an Elastic IP."
  type        = bool
}

variable "log_group" {
  description = "CloudWatch log group that takes what the VMs' containers write, each in a stream named like the VM."
  type        = string

  validation {
    condition     = can(regex("^[-._/#A-Za-z0-9]{1,512}$", var.log_group))
    error_message = "The log group's name may have up to 512 of A-Z, a-z, 0-9, -, ., _, / and #."
  }
}

variable "create_log_group" {
  description = "Whether the log group is made here. False: the allocator's own infrastructure has made it, with its subscription filter."
  type        = bool
}

variable "log_processor_arn" {
  description = "Lambda function that gets what is in the log group, if that is made here. CloudWatch must be allowed to call it. Empty: none."
  type        = string
}
