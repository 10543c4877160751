#!/bin/bash
# What the client container runs, as root: it clones the repository, runs the
# startup script, and becomes the agent. Beside it, it keeps Chrome Remote Desktop
# running, which is systemd's work on a machine that has it.
#
# It runs again whenever the container starts, also after a reboot of the VM.
set -uo pipefail

root=${CLIENT_ROOT-} # in front of all paths; empty but for tests
user=client
home=$root/home/$user
script=$root/docker_scripts/custom-startup.sh
desktop=$root/opt/google/chrome-remote-desktop/chrome-remote-desktop

say() {
	printf 'client: %s\n' "$*"
}

# Sends what is printed from here on not only to Docker's log (3 and 4) but also to
# where the agent takes it from, unless CloudWatch has it.
tee_console() {
	exec 3>&1 4>&2
	case ${LABLINK_SHIP_LOGS:-true} in 0 | [Ff] | false | False | FALSE) return 0 ;; esac
	exec > >(copy_console) 2>&1
	console=$!
	trap 'kill "$console" && wait "$console"' EXIT
}

# Whoever prints would die of a pipe that nobody reads. At the end what is in it is
# copied.
copy_console() {
	trap 'kill "$!" && wait "$!"; exit' TERM
	until lablink tee-console <&0 & wait "$!"; do sleep 1; done
}

# Runs a command as the desktop's user, in their home.
as_user() {
	(cd "$home" && exec setpriv --reuid="$user" --regid="$user" --init-groups -- env -u LABLINK_TOKEN_FILE \
		HOME="$home" USER="$user" LOGNAME="$user" SHELL=/bin/bash XDG_RUNTIME_DIR="$root/run/user/$user" "$@") </dev/null
}

# Removes what a container that was killed has left behind: displays, and the
# number of an agent, by which healthy.sh would take this one for working.
tidy() {
	rm -f "$root"/tmp/.X*-lock "$root"/tmp/.X11-unix/*
	mkdir -p "$LABLINK_STATE_DIR" && : >"$LABLINK_STATE_DIR/$VM_NAME.lock"
}

# Clones the repository onto the desktop, once. The participant may have changed
# what is there.
clone() {
	local url=${TUTORIAL_REPO_TO_CLONE-} name
	[ -n "$url" ] || return 0
	name=${url%/}
	name=${name##*[/:]}
	name=${name%.git}
	case $name in
	"" | .*)
		say "the repository's address ends in no name for a folder: it is not cloned"
		return 0
		;;
	esac
	[ ! -e "$home/Desktop/$name" ] || return 0
	say "cloning the repository $name"
	# Aside first: half a repository would never be completed. Nobody could answer a question for a password.
	if ! { as_user mkdir -p "$home/Desktop" "$home/.cache" &&
		as_user rm -rf "$home/.cache/clone" &&
		as_user env GIT_TERMINAL_PROMPT=0 timeout 900 git clone -- "$url" "$home/.cache/clone" &&
		as_user mv "$home/.cache/clone" "$home/Desktop/$name"; }; then
		say "the repository $name could not be cloned"
	fi
}

# Tells the allocator that this VM is of no use, and why.
report_error() {
	local try answer
	for try in 1 2 3 4 5; do
		answer=$(curl --disable --silent --show-error --fail --connect-timeout 5 --max-time 10 \
			--header @<(printf 'Authorization: Bearer %s\n' "$(cat "${LABLINK_TOKEN_FILE:-/dev/null}")") --header 'Content-Type: application/json' \
			--data "{\"hostname\":\"$VM_NAME\",\"status\":\"error\",\"reason\":\"$1\"}" --output /dev/null "${ALLOCATOR_URL%/}/api/vm-status" 2>&1) &&
			return 0
		say "the allocator does not take the status error (try $try): $answer"
		sleep $((try * 2))
	done
	return 1
}

# Runs the startup script. One that fails ends the container, if that is wanted.
customize() {
	local code=0
	[ -s "$script" ] || return 0
	say "running the startup script"
	as_user bash "$script" || code=$?
	[ "$code" -ne 0 ] || return 0
	say "the startup script has ended with code $code"
	if [ "${STARTUP_ON_ERROR-}" = fail ]; then
		report_error "the startup script has ended with code $code"
		exit "$code"
	fi
}

# Identifies the host configurations of Chrome Remote Desktop as they are now. One
# without an id belongs to a host that was deleted at Google.
configuration() {
	local file
	for file in "$home"/.config/chrome-remote-desktop/host#*.json; do
		! grep -qs '"host_id"' "$file" || stat -c '%n %i %y' "$file"
	done
}

# Runs the desktop whenever it is configured. Code 41 asks for another start; 0
# means that it was stopped, as by the agent that takes the desktop off a Google
# account, and is not to come back before it is configured anew.
keep_desktop() {
	local now stopped="" code
	while true; do
		now=$(configuration)
		if [ -n "$now" ] && [ "$now" != "$stopped" ]; then
			say "starting Chrome Remote Desktop"
			code=0
			as_user env XDG_SESSION_CLASS=user XDG_SESSION_TYPE=x11 "$desktop" --start --new-session || code=$?
			say "Chrome Remote Desktop has ended with code $code"
			case $code in
			0) stopped=$now ;;
			41) ;;
			*) sleep 10 ;;
			esac
		fi
		sleep 2
	done
}

main() {
	local began=$SECONDS
	: "${ALLOCATOR_URL:?}" "${VM_NAME:?}" "${LABLINK_STATE_DIR:?}"
	tidy
	tee_console
	keep_desktop & # before all that takes long: after a reboot somebody may wait for it
	clone
	customize
	say "prepared in $((SECONDS - began)) seconds"
	exec lablink agent >&3 2>&4 3>&- 4>&- # which sends its own log by itself
}

main
