package docs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// oldConfigs are files of the Python system, of before and after its settings of
// DNS were simplified.
var oldConfigs = map[string]string{
	"older": `db:
  dbname: lablink_db
  user: lablink
  password: hunter2
  host: localhost
  port: 5432
  table_name: vms
machine:
  machine_type: g4dn.xlarge
  image: ghcr.io/talmolab/lablink-client-base-image:latest
  ami_id: ami-0601752c11b394251
  repository: https://github.com/talmolab/sleap-tutorial-data.git
  software: sleap
  extension: slp
app:
  admin_user: admin
  admin_password: a long password of mine
  region: us-west-2
dns:
  enabled: true
  domain: lablink.example.org
  pattern: custom
  custom_subdomain: test
ssl:
  provider: letsencrypt
  email: admin@example.org
  staging: false
bucket_name: my-state
`,
	"newer": `machine:
  machine_type: g4dn.xlarge
app:
  admin_password: a long password of mine
dns:
  enabled: true
  domain: lablink.example.org
ssl:
  provider: acm
  certificate_arn: arn:aws:acm:us-west-2:123456789012:certificate/12345678-1234-1234-1234-123456789012
`,
}

// TestMoving checks an old file with what docs/moving.md adds to it.
func TestMoving(t *testing.T) {
	t.Parallel()
	const page = "docs/moving.md"
	_, blocks := readPage(t, page).split(t)
	added := ""
	for _, b := range blocks {
		if b.marker == "config" {
			added = b.text
		}
	}
	if !strings.Contains(added, "provider: aws") {
		t.Fatalf("%s adds nothing to the file", page)
	}
	for name, old := range oldConfigs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			etc := t.TempDir()
			if err := os.WriteFile(filepath.Join(etc, "config.yaml"), []byte(old+added), 0o600); err != nil {
				t.Fatal(err)
			}
			readScript(t, page, "moving").run(t, etc, nil, "/etc/lablink", etc)
		})
	}
}
