package diagram

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
)

// schemaFile is the catalog of a database that was brought up to date by the
// migrations: a test writes it, and fails when it is out of date.
//
//go:embed schema.json
var schemaFile []byte

// Schema is what is in the database.
type Schema struct {
	Tables []SchemaTable `json:"tables"`
}

// SchemaTable is a table.
type SchemaTable struct {
	Name     string          `json:"name"`
	Columns  []SchemaColumn  `json:"columns"`
	Triggers []SchemaTrigger `json:"triggers,omitzero"`
}

// SchemaColumn is a column of a table.
type SchemaColumn struct {
	Name       string `json:"name"`
	Type       string `json:"type"`
	Key        bool   `json:"key,omitzero"`        // it is, or is part of, the primary key
	References string `json:"references,omitzero"` // the table whose key it holds, or ""
}

// SchemaTrigger is a trigger on a table.
type SchemaTrigger struct {
	Name     string   `json:"name"`
	When     string   `json:"when"`              // such as AFTER INSERT OR UPDATE
	Columns  []string `json:"columns,omitzero"`  // it is about these alone, if there are any
	Channels []string `json:"channels,omitzero"` // that its function notifies
}

func readSchema() (*Schema, error) {
	var s Schema
	if err := json.Unmarshal(schemaFile, &s); err != nil {
		return nil, fmt.Errorf("schema.json: %w", err)
	}
	return &s, nil
}

// notifier returns the trigger that tells of changes to a column.
func (s *Schema) notifier(table, column string) (SchemaTrigger, error) {
	for _, t := range s.Tables {
		if t.Name != table || !slices.ContainsFunc(t.Columns, func(c SchemaColumn) bool { return c.Name == column }) {
			continue
		}
		for _, trigger := range t.Triggers {
			if slices.Contains(trigger.Columns, column) && len(trigger.Channels) > 0 {
				return trigger, nil
			}
		}
	}
	return SchemaTrigger{}, fmt.Errorf("no trigger tells of changes to %s.%s", table, column)
}
