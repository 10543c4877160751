#!/bin/sh
# Whether the client container works: Chrome Remote Desktop is there, and so is
# the agent, which writes its number into its lock when it begins.
set -eu

root=${CLIENT_ROOT-} # in front of all paths; empty but for tests
[ -x "$root/opt/google/chrome-remote-desktop/start-host" ]
read -r agent <"$LABLINK_STATE_DIR/$VM_NAME.lock"
kill -0 "$agent"
