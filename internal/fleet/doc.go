// Package fleet is LabLink's domain: virtual machines, the seats that tie one
// machine to one participant, the rules by which both change, and the kinds of
// error that everything else translates. It imports the standard library only.
package fleet
