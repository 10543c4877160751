// Package deploy holds what others deploy LabLink with. The program itself reads
// of it what it draws.
package deploy

import (
	"embed"
	"io/fs"
)

//go:embed aws/*.tf
var files embed.FS

// AWS returns the Terraform files that make an allocator on AWS.
func AWS() fs.FS {
	sub, err := fs.Sub(files, "aws")
	if err != nil {
		panic(err) // the name is one of ours, and embedded
	}
	return sub
}
