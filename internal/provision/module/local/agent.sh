#!/bin/sh
# Starts or stops the agent that stands for one VM of the local provider.
#
#   agent.sh start|stop      with VM_HOSTNAME, VM_FOLDER and, to start, the rest
#
# Either may be killed at any moment, and be repeated. The VM's folder tells
# where an earlier one has come to: whoever works on the VM holds the folder's
# lock, also an "rm" that outlives its shell, and a process that is to become the
# agent holds on to it until its number stands in the file "pid". That number
# means the agent as long as the process works in the VM's folder, which no other
# does.
set -eu
umask 077

home=${VM_FOLDER:?}/${VM_HOSTNAME:?}

# The folder may be removed while its lock is waited for.
enter() {
	# shellcheck disable=SC3013 # not POSIX, but dash, bash and busybox have it
	cd "$home" && exec 9<. && flock 9 && [ . -ef "$home" ] && home=$(pwd -P)
}

# A process that has ended, also one that nobody has waited for, works nowhere.
works_here() {
	[ "$(readlink "/proc/$1/cwd")" = "$home" ]
}

stop() {
	pid=$(cat pid 2>/dev/null) || return 0
	tries=0
	while works_here "$pid"; do
		case $tries in
		0) kill -s TERM "$pid" 2>/dev/null || true ;; # once: a second one cuts its clean-up short
		40) kill -s KILL -- "$pid" "-$pid" 2>/dev/null || true ;; # with its process group
		80) echo "the agent of $VM_HOSTNAME (process $pid) does not end" >&2 && exit 1 ;;
		esac
		tries=$((tries + 1))
		if [ "$tries" -lt 20 ]; then sleep 0.05; else sleep 0.2; fi
	done
	rm pid
}

start() {
	lock=state/$VM_HOSTNAME.lock
	mkdir -p state
	: >"$lock" # the agent writes its number when it is ready
	printf '%s\n' "${VM_TOKEN:?}" >token
	# Nothing of Terraform's environment goes on to the agent: it holds the
	# database's URL. In a session of its own it outlives Terraform.
	# shellcheck disable=SC2016 # expanded by the inner shell
	sh -c 'echo $$ >pid && exec "$@" 9<&-' sh \
		env -i HOME="$home" PATH="$PATH" setsid "${VM_LABLINK:?}" agent \
		--hostname "$VM_HOSTNAME" --allocator "${VM_ALLOCATOR:?}" --token-file "$home/token" \
		--start-host "${VM_START_HOST:?}" --state-dir "$home/state" --software "${VM_SOFTWARE:-}" --boot-log none \
		</dev/null >agent.log 2>&1 &
	started=$!
	tries=0
	until [ "$(cat "$lock")" = "$started" ]; do
		works_here "$started" || fail "ended at once"
		[ "$tries" -lt 3000 ] || fail "was not ready within 30 seconds"
		tries=$((tries + 1))
		sleep 0.01
	done
	echo "the agent of $VM_HOSTNAME runs as process $started"
}

fail() {
	echo "the agent of $VM_HOSTNAME $1:" >&2
	tail -n 3 agent.log >&2
	stop
	exit 1
}

case ${1-} in
start)
	tries=0
	until mkdir -p "$home" && enter; do
		tries=$((tries + 1))
		[ "$tries" -lt 3 ] || { echo "cannot work in $home" >&2 && exit 1; }
	done
	stop
	start
	;;
stop)
	if [ -d "$home" ] && enter 2>/dev/null; then
		stop
		cd /
		rm -rf "$home"
	elif [ -e "$home" ]; then
		echo "cannot work in $home" >&2
		exit 1
	fi
	echo "the agent of $VM_HOSTNAME has ended"
	;;
*)
	echo "usage: agent.sh start|stop" >&2
	exit 2
	;;
esac
