#!/bin/bash
# Makes a fresh cloud VM one that a participant can use: Docker, perhaps a GPU,
# and the client container, whose agent waits for the allocator.
#
# cloud-init runs this as root at the first boot, behind the settings BOOT_... that
# main.tf puts in front of it. After a reboot it is Docker that starts the
# container again. Whatever goes wrong is told to the allocator: as the status
# "error", with the reason in a line.
set -euo pipefail
umask 077
export LC_ALL=C DEBIAN_FRONTEND=noninteractive

root=${BOOT_ROOT-} # in front of all paths; empty but for tests
etc=$root/etc/lablink
state=$root/var/lib/lablink-agent
container=lablink-client
boot_log=/var/log/cloud-init-output.log # of this script, among others

step="getting ready" # what it is at, should it end unexpectedly
reason=              # why it cannot go on
over=                # nothing more to be told
output=              # of the last command that was retried
gpu=()               # flags for docker run

say() {
	printf '%(%T)T lablink: %s\n' -1 "$*"
}

# The text in one line of at most so many bytes, without the token or anything that
# is not to be printed. Bytes that are no UTF-8, or half a character, are dropped.
line() {
	local text=${2//"$BOOT_TOKEN"/[token]}
	text=$(printf '%s' "$text" | sed $'s/\033\\[[0-9;?]*[A-Za-z]//g' | tr -s '\000-\040\177' ' ')
	printf '%s' "${text:0:$1}" | iconv -f UTF-8 -t UTF-8 -c || true
}

# The last lines of what a command printed, for a reason.
tail_of() {
	local last
	last=$(printf '%s' "${1//"$BOOT_TOKEN"/[token]}" | tail -n 5)
	[ "${#last}" -le 400 ] || last=...${last: -400}
	line 500 "${last:-it printed nothing}"
}

# Waits after the try of that number, longer each time. The random part keeps a
# room full of VMs from calling in step.
back_off() {
	local most=$((1 << ($1 < 5 ? $1 : 5)))
	sleep $((most + RANDOM % (most / 2 + 1)))
}

# Tries a command up to so many times.
retry() {
	local tries=$1 try
	shift
	for ((try = 1; ; try++)); do
		if output=$("$@" 2>&1 </dev/null); then
			return 0
		fi
		say "$1 failed, try $try of $tries: $(tail_of "$output")"
		((try < tries)) || return 1
		back_off "$try"
	done
}

# Ends this script; see on_exit.
fail() {
	reason=$1
	exit 1
}

# Posts JSON to a path of the allocator, trying up to so many times. Only a 2xx is
# a success. A redirect is not followed: it would make a GET of the POST, or take
# the token elsewhere. Curl gets the token from a pipe: arguments are public.
post() {
	local tries=$1 path=$2 json=$3 try answer
	for ((try = 1; ; try++)); do
		if answer=$(printf '%s' "$json" | curl --disable --silent --show-error --connect-timeout 5 --max-time 10 \
			--header @<(printf 'Authorization: Bearer %s\n' "$BOOT_TOKEN") --header 'Content-Type: application/json' \
			--data-binary @- --write-out '\n%{http_code} %{redirect_url}' "$BOOT_ALLOCATOR$path" 2>&1); then
			case ${answer##*$'\n'} in
			2??\ *) return 0 ;;
			3??\ *) answer="a redirect to ${answer##* }: server.public_url must be the address that answers" ;;
			esac
		fi
		say "POST $path failed, try $try of $tries: $(line 300 "$answer")"
		((try < tries)) || return 1
		back_off "$try"
	done
}

# Reports the VM's status, with a reason or without.
report() {
	local tries=$1 status=$2 why=${3-}
	why=$(line 500 "$why" | sed 's/[\\"]/\\&/g')
	post "$tries" /api/vm-status "{\"hostname\":\"$BOOT_HOSTNAME\",\"status\":\"$status\"${why:+,\"reason\":\"$why\"}}"
}

on_exit() {
	local code=$?
	trap - EXIT
	set +e
	[ -z "$over" ] || exit "$code"
	[ -n "$reason" ] || reason="the boot script ended unexpectedly while $step"
	say "error: $(line 500 "$reason")"
	report 25 error "$reason" || say "the allocator does not know"
	[ "$code" -ne 0 ] || code=1
	exit "$code"
}

have() {
	command -v "$1" >/dev/null
}

# Another program may have the package system for minutes after a boot.
apt_install() {
	have apt-get || { echo "there is no apt-get on this machine" && return 1; }
	apt-get -qq -o DPkg::Lock::Timeout=300 update && apt-get -qq -y -o DPkg::Lock::Timeout=300 install "$@"
}

# Starts Docker, and lets it start at each boot.
start_docker() {
	if ! { retry 6 systemctl enable docker && retry 6 systemctl "$1" docker && retry 8 docker version; }; then
		fail "Docker does not start: $(tail_of "$output")"
	fi
}

install_docker() {
	if ! have docker; then
		say "installing Docker"
		retry 6 apt_install docker.io || fail "Docker could not be installed: $(tail_of "$output")"
	fi
	start_docker start
}

# Gives the container the GPU, if this VM shall have one.
prepare_gpu() {
	local device
	[ "$BOOT_GPU" = true ] || return 0
	if ! have nvidia-smi; then
		say "no driver for the GPU here (nvidia-smi): going on without the GPU"
		return 0
	fi
	retry 8 nvidia-smi || fail "the driver of the GPU does not work: $(tail_of "$output")"
	if ! have nvidia-ctk; then
		say "installing the NVIDIA container toolkit"
		retry 4 apt_install nvidia-container-toolkit ||
			fail "the NVIDIA container toolkit is missing and could not be installed; use a machine image that has it: $(tail_of "$output")"
	fi
	retry 4 nvidia-ctk runtime configure --runtime=docker || fail "Docker could not be prepared for the GPU: $(tail_of "$output")"
	start_docker restart
	# Neither is needed to go on: without the first the GPU is slow to wake up,
	# without the second a device may be missing below.
	nvidia-smi -pm 1 >/dev/null 2>&1 || say "the GPU has no persistence mode"
	! have nvidia-modprobe || nvidia-modprobe -u -c=0 || say "nvidia-modprobe failed"
	# Devices by name as well: with --gpus alone, a "systemctl daemon-reload", which any
	# update may run, takes the GPU away from a running container.
	gpu=(--gpus all)
	for device in "$root"/dev/nvidia*; do
		[ ! -c "$device" ] || gpu+=(--device "$device")
	done
}

# The startup script is run by a user of the container; all else is root's.
write_files() {
	mkdir -p "$etc/docker_scripts" "$state" &&
		printf '%s\n' "$BOOT_TOKEN" >"$etc/agent-token" &&
		printf '%s' "$BOOT_STARTUP_SCRIPT" | base64 -d | gzip -d >"$etc/docker_scripts/custom-startup.sh" &&
		chmod 755 "$etc" "$etc/docker_scripts" "$etc/docker_scripts/custom-startup.sh"
}

run_container() {
	local host=${BOOT_ALLOCATOR#*://} log=()
	[ ! -f "$root$boot_log" ] || log=(--mount "type=bind,source=$root$boot_log,target=$boot_log,readonly")
	docker rm --force "$container" >/dev/null 2>&1 || true
	# Log lines wait in a buffer, so that the desktop never waits for CloudWatch.
	# Browsers need more shared memory than the usual 64 MB. What CloudWatch never has,
	# or nobody would fetch from there, the agent sends to the allocator.
	docker run --detach --name "$container" --restart unless-stopped --network host --shm-size 1g "${gpu[@]}" \
		--log-driver awslogs --log-opt awslogs-region="$BOOT_REGION" --log-opt awslogs-group="$BOOT_LOG_GROUP" \
		--log-opt awslogs-stream="$BOOT_HOSTNAME" --log-opt awslogs-create-group=false \
		--log-opt mode=non-blocking --log-opt max-buffer-size=4m \
		--mount type=bind,source="$etc/docker_scripts",target=/docker_scripts,readonly \
		--mount type=bind,source="$etc/agent-token",target=/etc/lablink/agent-token,readonly \
		--mount type=bind,source="$state",target=/var/lib/lablink-agent "${log[@]}" \
		--env LABLINK_TOKEN_FILE=/etc/lablink/agent-token \
		--env ALLOCATOR_URL="$BOOT_ALLOCATOR" --env ALLOCATOR_HOST="${host%%[:/]*}" --env VM_NAME="$BOOT_HOSTNAME" \
		--env SUBJECT_SOFTWARE="$BOOT_SOFTWARE" --env TUTORIAL_REPO_TO_CLONE="$BOOT_REPOSITORY" \
		--env CLOUD_INIT_LOG_GROUP="$BOOT_LOG_GROUP" --env AWS_REGION="$BOOT_REGION" \
		--env LABLINK_SHIP_LOGS="$BOOT_SHIP_LOGS" --env STARTUP_ON_ERROR="$BOOT_STARTUP_ON_ERROR" \
		"$BOOT_IMAGE"
}

# What the container wrote last.
last_words() {
	tail_of "$(docker logs --tail 5 "$container" 2>&1 || true)"
}

# Waits until the container works: until it is healthy, if its image can tell, else
# until it has stayed up for a moment. A startup script may take long.
await_container() {
	local try up=0 now words
	for ((try = 1; try <= 360; try++)); do
		sleep 5
		now=$(docker inspect --format '{{.State.Status}} {{.RestartCount}} {{if .State.Health}}{{.State.Health.Status}}{{end}}' \
			"$container" 2>&1) || now="unknown: $now"
		case $now in
		"running 0 healthy") return 0 ;;
		"running 0 ")
			up=$((up + 1))
			[ "$up" -lt 3 ] || return 0
			;;
		"running 0 starting" | "created 0 "* | unknown:*) ;;
		"running 0 unhealthy")
			words=$(last_words)
			docker stop "$container" >/dev/null 2>&1 || true # its agent would say later that the VM works
			fail "the client container is unhealthy: $words"
			;;
		*) fail "the client container has ended with code $(docker inspect --format '{{.State.ExitCode}}' "$container" || true): $(last_words)" ;;
		esac
	done
	fail "the client container did not work within half an hour ($(line 100 "$now")): $(last_words)"
}

main() {
	local started ended
	trap on_exit EXIT
	printf -v started '%(%s)T' -1

	step="looking for curl"
	have curl || retry 6 apt_install curl || fail "there is no curl, and it could not be installed: $(tail_of "$output")"
	report 4 initializing || say "going on all the same"

	step="installing Docker"
	install_docker
	step="preparing the GPU"
	prepare_gpu
	step="pulling the image"
	say "pulling $BOOT_IMAGE"
	retry 6 timeout 1800 docker pull --quiet "$BOOT_IMAGE" || fail "the image $BOOT_IMAGE could not be pulled: $(tail_of "$output")"
	step="writing files"
	retry 3 write_files || fail "the client's files could not be written: $(tail_of "$output")"
	step="starting the client container"
	say "starting the client container"
	retry 8 run_container || fail "the client container could not be started: $(tail_of "$output")"
	step="waiting for the client container"
	await_container

	step="reporting that the VM works"
	printf -v ended '%(%s)T' -1
	over=yes # a VM that works is not in error: the agent goes on trying to say so
	report 25 running || { say "the allocator does not know that this VM works" && exit 1; }
	post 5 "/api/vm-metrics/$BOOT_HOSTNAME" \
		"{\"cloud_init_start\":$started,\"cloud_init_end\":$ended,\"cloud_init_duration_seconds\":$((ended - started))}" ||
		say "the allocator does not know how long the start took"
	say "done in $((ended - started)) seconds"
}

main
