// Package docs holds no code: its tests keep README.md and docs/ honest. They
// follow every link, run the commands that are marked to be run, compare what is
// named (commands, flags, variables, routes, metrics, tests) with what is there,
// and write the parts that are generated:
//
//	go test ./internal/docs -update
//
// A block is run if the line before it is a marker. Blocks of one name in one
// file share a shell and a folder, in the order in which they stand:
//
//	<!-- run NAME -->        the block that follows is part of script NAME
//	<!-- prints -->          the block that follows is what the one before prints;
//	                         "…" stands for anything within a line
package docs
