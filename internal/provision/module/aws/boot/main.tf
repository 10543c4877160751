# The user data of one VM: boot.sh behind its settings. Nothing is made here.

variable "hostname" {
  description = "The VM, as LabLink knows it."
  type        = string
}

variable "token" {
  description = "The VM's credential."
  type        = string
  sensitive   = true

  validation {
    condition     = can(regex("^[!-~]+$", var.token))
    error_message = "A token is a word of printable characters: it becomes part of an HTTP header."
  }
}

variable "allocator_url" {
  description = "Where the VM calls."
  type        = string
}

variable "image" {
  description = "Container image of the client."
  type        = string
}

variable "repository" {
  description = "Git URL that the client clones. Empty: none."
  type        = string
}

variable "software" {
  description = "Text by which the client knows the software that is used."
  type        = string
}

variable "gpu" {
  description = "Whether the client gets the VM's GPU."
  type        = bool
}

variable "region" {
  description = "AWS region of the log group."
  type        = string
}

variable "log_group" {
  description = "CloudWatch log group for what the client writes."
  type        = string
}

variable "ship_logs" {
  description = "Whether the client's agent sends what the client writes to the allocator. False: it gets there through CloudWatch."
  type        = bool
}

variable "startup_script" {
  description = "Content of the script that the client runs when it starts."
  type        = string
}

variable "startup_on_error" {
  description = "What becomes of the VM if that script fails: continue or fail."
  type        = string
}

locals {
  settings = {
    BOOT_HOSTNAME         = var.hostname
    BOOT_TOKEN            = var.token
    BOOT_ALLOCATOR        = trimsuffix(var.allocator_url, "/")
    BOOT_IMAGE            = var.image
    BOOT_REPOSITORY       = var.repository
    BOOT_SOFTWARE         = var.software
    BOOT_GPU              = tostring(var.gpu)
    BOOT_REGION           = var.region
    BOOT_LOG_GROUP        = var.log_group
    BOOT_SHIP_LOGS        = tostring(var.ship_logs)
    BOOT_STARTUP_ON_ERROR = var.startup_on_error
    BOOT_STARTUP_SCRIPT   = base64gzip(var.startup_script)
  }

  # Between single quotes the shell takes everything as it is, but for the quote
  # itself: whatever is in a setting, it remains text.
  user_data = join("\n", concat(
    ["#!/bin/bash"],
    [for name, value in local.settings : "${name}='${replace(value, "'", "'\\''")}'"],
    [file("${path.module}/boot.sh")],
  ))
  user_data_base64 = base64gzip(local.user_data)

  # Four characters stand for three bytes.
  size  = nonsensitive(length(local.user_data_base64)) * 3 / 4
  limit = 16384
}

output "user_data" {
  description = "The script that the VM runs at its first boot."
  value       = local.user_data
  sensitive   = true
}

output "user_data_base64" {
  description = "The same as EC2 takes it, compressed."
  value       = local.user_data_base64
  sensitive   = true

  precondition {
    condition = local.size <= local.limit
    error_message = join(" ", [
      "The user data of ${var.hostname} takes ${local.size} bytes, and EC2 takes ${local.limit}, compressed. The startup script",
      "(startup_script.path) has ${length(var.startup_script)} characters: shorten it, for example by letting it download what it needs.",
    ])
  }
}
