package awsfleet_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// oneOrMany is how IAM writes a list of one.
type oneOrMany []string

// UnmarshalJSON implements json.Unmarshaler.
func (o *oneOrMany) UnmarshalJSON(data []byte) error {
	if data[0] == '[' {
		return json.Unmarshal(data, (*[]string)(o))
	}
	*o = make([]string, 1)
	return json.Unmarshal(data, &(*o)[0])
}

type policy struct {
	Version   string `json:"Version"`
	Statement []struct {
		Sid       string                          `json:"Sid"`
		Effect    string                          `json:"Effect"`
		Action    oneOrMany                       `json:"Action"`
		Resource  oneOrMany                       `json:"Resource"`
		Condition map[string]map[string]oneOrMany `json:"Condition"`
	} `json:"Statement"`
}

func readPolicy(t *testing.T, name string) (p policy) {
	t.Helper()
	data, err := os.ReadFile("../../deploy/aws/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// Whatever this package asks of AWS, the documented policy allows.
func TestPolicy_Covers(t *testing.T) {
	t.Parallel()
	var allowed []string
	for _, s := range readPolicy(t, "allocator-policy.json").Statement {
		allowed = append(allowed, s.Action...)
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]bool{}
	pattern := regexp.MustCompile(`\bf\.(ec2|iam|logs)\.([A-Z]\w+)\(|\b(ec2)\.New(Describe\w+)Paginator\(`)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, m := range pattern.FindAllStringSubmatch(string(data), -1) {
			calls[m[1]+m[3]+":"+m[2]+m[4]] = true
		}
	}
	if len(calls) < 15 {
		t.Errorf("only these calls were found: %v", calls)
	}
	for call := range calls {
		if !slices.Contains(allowed, call) {
			t.Errorf("the policy does not allow %s", call)
		}
	}
}

// No statement lets LabLink change what is not its own.
func TestPolicy_Bounds(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"allocator-policy.json", "state-policy.json"} {
		p := readPolicy(t, name)
		if p.Version != "2012-10-17" || len(p.Statement) == 0 {
			t.Errorf("%s: %+v", name, p)
		}
		for _, s := range p.Statement {
			reads := !slices.ContainsFunc(s.Action, func(a string) bool { return !strings.Contains(a, ":Describe") })
			if s.Effect != "Allow" || !reads && slices.Contains(s.Resource, "*") && len(s.Condition) == 0 {
				t.Errorf("%s: statement %s has no bounds", name, s.Sid)
			}
			for _, a := range s.Action {
				if strings.Contains(a, "*") {
					t.Errorf("%s: statement %s allows %s", name, s.Sid, a)
				}
			}
		}
	}
}
