// Package infra holds no code: its tests are about deploy/aws, the Terraform files
// that make an allocator on AWS. They apply them to an emulated AWS, and run the
// script that sets the machine up.
package infra
