// Package arch holds no code: its tests hold the rules about the source tree
// that neither the compiler nor a linter knows, such as which package may
// import which.
package arch
