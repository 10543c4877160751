package pgserver

import "testing"

func TestServer_DiesWithParent(t *testing.T) {
	t.Parallel()
	helper, pid := startHelper(t, tempDir(t), helperDir+"_DIE=1")
	kill9(t, helper)
	eventually(t, "end of the server", func() bool { return gone(pid) })
}
