# VMs that are processes on the machine that runs the allocator: agents with a
# simulated Chrome Remote Desktop. For trying LabLink, and for its tests.

variable "vms" {
  description = "The VMs that shall exist, by hostname."
  type        = map(object({ instance_type = string }))
}

variable "tokens" {
  description = "The credential of each VM that is about to be made, by hostname."
  type        = map(string)
  sensitive   = true
}

variable "allocator_url" {
  description = "Where the agents call."
  type        = string
}

variable "lablink" {
  description = "Path of the lablink program."
  type        = string
}

variable "start_host" {
  description = "Path of the simulated start-host program."
  type        = string
}

variable "folder" {
  description = "Folder in which each VM gets one of its own."
  type        = string
}

variable "software" {
  description = "Report whether a process with this text in its arguments runs."
  type        = string
}

resource "terraform_data" "vm" {
  for_each = var.vms

  input = {
    hostname      = each.key
    instance_type = each.value.instance_type
    folder        = var.folder
  }

  # A later launch never touches an older VM, whatever has changed meanwhile.
  lifecycle {
    ignore_changes = [input]
  }

  provisioner "local-exec" {
    command = "sh ./agent.sh start"
    environment = {
      VM_HOSTNAME   = self.input.hostname
      VM_FOLDER     = self.input.folder
      VM_TOKEN      = lookup(var.tokens, self.input.hostname, "")
      VM_ALLOCATOR  = var.allocator_url
      VM_LABLINK    = var.lablink
      VM_START_HOST = var.start_host
      VM_SOFTWARE   = var.software
    }
  }

  provisioner "local-exec" {
    when    = destroy
    command = "sh ./agent.sh stop"
    environment = {
      VM_HOSTNAME = self.input.hostname
      VM_FOLDER   = self.input.folder
    }
  }
}

output "vms" {
  description = "What the provider calls each VM, and where it is."
  value = {
    for hostname, vm in terraform_data.vm : hostname => { id = vm.id, address = "127.0.0.1" }
  }
}
