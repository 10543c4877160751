package diagram

import "strings"

// database is the tables, what refers to what, and what triggers tell.
func database(p *Picture, c *content) error {
	p.Title, p.Bold = "LabLink: tables and notifications", "part of the primary key"
	p.Groups = []Group{{ID: "database", Title: "PostgreSQL"}}
	listening := map[string]bool{}
	var channels []Node
	var notes []Edge
	for _, t := range c.schema.Tables {
		node := Node{ID: t.Name, In: "database", Title: t.Name, Shape: Table}
		for _, column := range t.Columns {
			node.Fields = append(node.Fields, Field{column.Name, short(column.Type), column.Key})
			if column.References != "" {
				p.line(t.Name, column.References, "", Refers, "")
			}
		}
		for _, trigger := range t.Triggers {
			if len(trigger.Channels) == 0 {
				node.Lines = append(node.Lines, "trigger "+trigger.Name)
			}
			for _, channel := range trigger.Channels {
				if !listening[channel] {
					listening[channel] = true
					channels = append(channels, Node{ID: "channel " + channel, Title: channel, Lines: []string{"channel"}, Shape: Program})
				}
				notes = append(notes, Edge{From: t.Name, To: "channel " + channel, Text: trigger.Name + ", " + trigger.When, Kind: Notify})
			}
		}
		p.Nodes = append(p.Nodes, node)
	}
	p.Nodes = append(p.Nodes, channels...)
	p.Nodes = append(p.Nodes, Node{ID: "serve", Title: "lablink serve", Lines: []string{"every replica: LISTEN"}, Shape: Program})
	p.Edges = append(p.Edges, notes...)
	for _, channel := range channels {
		p.line(channel.ID, "serve", "wakes held requests and live pages", Notify, "")
	}
	return nil
}

// short are the names that people use for types.
func short(kind string) string {
	return strings.NewReplacer("timestamp with time zone", "timestamptz", "double precision", "float8").Replace(kind)
}
