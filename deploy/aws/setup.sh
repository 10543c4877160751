#!/bin/bash
# Makes a fresh Ubuntu the allocator: its data volume, PostgreSQL's and Terraform's
# programs, LabLink, and the service that runs it.
#
# cloud-init runs this as root at the first boot, behind the settings SETUP_...
# that allocator.tf puts in front of it. What it prints is in
# /var/log/cloud-init-output.log and on the instance's console (get-console-output).
set -euo pipefail
umask 022
export LC_ALL=C DEBIAN_FRONTEND=noninteractive

root=${SETUP_ROOT-} # in front of all paths; empty but for tests
metadata=${SETUP_METADATA-http://169.254.169.254}
data=$root/var/lib/lablink
etc=$root/etc/lablink
programs=$root/usr/local/bin
id=900 # of LabLink's user, the same on each machine that gets the volume

say() {
	printf '%(%T)T lablink: %s\n' -1 "$*"
}

fail() {
	say "error: $*" >&2
	exit 1
}

# Tries a command up to so many times. In the first minutes of a machine much may
# fail that works a moment later: its address changes when the Elastic IP comes.
retry() {
	local tries=$1 try
	shift
	for ((try = 1; ; try++)); do
		if "$@" </dev/null; then
			return 0
		fi
		say "$1 failed, try $try of $tries"
		((try < tries)) || return 1
		sleep $((try < 6 ? 2 * try : 15))
	done
}

apt_install() {
	apt-get -qq -o DPkg::Lock::Timeout=300 update && apt-get -qq -y -o DPkg::Lock::Timeout=300 install "$@"
}

# LabLink runs a PostgreSQL of its own, so the package needs not start one.
install_packages() {
	mkdir -p "$root/etc/postgresql-common/createcluster.d"
	echo "create_main_cluster = false" >"$root/etc/postgresql-common/createcluster.d/lablink.conf"
	retry 10 apt_install ca-certificates curl git postgresql unzip || fail "the packages could not be installed"
}

# The device of the volume: by its id, or by the name that it has on older types.
find_volume() {
	local name
	for name in "$root/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${SETUP_VOLUME/-/}" "$root/dev/xvdf"; do
		if [ -e "$name" ]; then
			device=$(readlink -f "$name")
			return 0
		fi
	done
	return 1
}

# Terraform attaches the volume when it has made this machine, and perhaps stops an
# older one first, which takes minutes.
await_volume() {
	local try
	for ((try = 1; try <= 300; try++)); do
		! find_volume || return 0
		((try % 30 != 1)) || say "waiting for the volume $SETUP_VOLUME"
		sleep 2
	done
	fail "the volume $SETUP_VOLUME is not attached"
}

# Makes a file system, but only on a volume on which there is nothing: blkid finds
# no trace of anything, and its beginning is zeros, as on a new one.
format_if_empty() {
	local code=0
	blkid --probe "$device" >/dev/null || code=$?
	case $code in
	0) ;;
	2)
		cmp --quiet --bytes=1048576 "$device" "$root/dev/zero" ||
			fail "there is something on $device ($SETUP_VOLUME), but no file system: it is left as it is"
		say "the volume is new: making a file system"
		mkfs.ext4 -q -L lablink "$device" </dev/null
		;;
	*) fail "it is not clear what is on $device ($SETUP_VOLUME): it is left as it is" ;;
	esac
}

# Without its volume the machine starts all the same, so that somebody can look,
# but LabLink does not: see write_files.
mount_volume() {
	local uuid
	uuid=$(blkid --probe --match-tag UUID --output value "$device")
	[ -n "$uuid" ] || fail "what is on $device ($SETUP_VOLUME) is no file system"
	mkdir -p "$data"
	if ! grep -q "^UUID=$uuid " "$root/etc/fstab"; then
		echo "UUID=$uuid /var/lib/lablink ext4 defaults,nofail 0 2" >>"$root/etc/fstab"
	fi
	systemctl daemon-reload
	mountpoint --quiet "$data" || mount "$data"
	resize2fs "$device" # in case that it has grown
}

# A GET of an object in S3 by the rights of this machine's role. Secrets go to curl
# through a pipe: arguments are public.
get_s3() {
	local token role keys object=${1#s3://}
	token=$(curl -sS --fail --max-time 10 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' "$metadata/latest/api/token") || return 1
	role=$metadata/latest/meta-data/iam/security-credentials/
	role=$role$(curl -sS --fail --max-time 10 -H "X-aws-ec2-metadata-token: $token" "$role") || return 1
	keys=$(curl -sS --fail --max-time 10 -H "X-aws-ec2-metadata-token: $token" "$role") || return 1
	key() { sed -n "s/.*\"$1\" *: *\"\([^\"]*\)\".*/\1/p" <<<"$keys"; }
	curl -sS --fail --max-time 900 --aws-sigv4 "aws:amz:$SETUP_REGION:s3" --output "$2" --config - <<-CONFIG
		user = "$(key AccessKeyId):$(key SecretAccessKey)"
		header = "x-amz-security-token: $(key Token)"
		url = "${SETUP_S3-https://s3.$SETUP_REGION.amazonaws.com}/$object"
	CONFIG
}

download() {
	case $1 in
	s3://*) get_s3 "$1" "$2" ;;
	*) curl -sS --fail --location --proto =https --max-time 900 --output "$2" "$1" ;;
	esac
}

# Fetches a file, which must be the one that is meant.
fetch() {
	local url=$1 sum=$2 to=$3
	say "fetching $url"
	retry 8 download "$url" "$to" || fail "$url could not be fetched"
	echo "$sum  $to" | sha256sum --check --quiet - || fail "$url is another file than expected: its SHA-256 is $(sha256sum <"$to")"
}

install_programs() {
	local dir
	dir=$(mktemp -d)
	fetch "$SETUP_LABLINK_URL" "$SETUP_LABLINK_SHA256" "$dir/lablink"
	fetch "$SETUP_OPENTOFU_URL" "$SETUP_OPENTOFU_SHA256" "$dir/tofu.zip"
	unzip -q -o "$dir/tofu.zip" tofu -d "$dir"
	mkdir -p "$programs"
	install -m 755 "$dir/lablink" "$dir/tofu" "$programs/"
	rm -rf "$dir"
}

make_user() {
	getent group lablink >/dev/null || groupadd --system --gid "$id" lablink
	getent passwd lablink >/dev/null ||
		useradd --system --uid "$id" --gid lablink --home-dir /var/lib/lablink --shell /usr/sbin/nologin lablink
}

# The configuration may hold secrets: LabLink can read it, nobody else. Its token
# is in serve.env, which only root can read.
write_files() {
	install -d -m 755 "$etc" "$root/etc/systemd/system/lablink.service.d"
	install -m 640 -g lablink /dev/stdin "$etc/config.yaml" <<<"$SETUP_CONFIG"
	install -m 600 /dev/stdin "$etc/serve.env" <<<"$SETUP_ENVIRONMENT"
	if [ -n "$SETUP_STARTUP_SCRIPT" ]; then
		install -m 640 -g lablink /dev/stdin "$etc/custom-startup.sh" <<<"$SETUP_STARTUP_SCRIPT"
	fi
	install -m 644 /dev/stdin "$root/etc/systemd/system/lablink.service" <<<"$SETUP_UNIT"
	install -m 644 /dev/stdin "$root/etc/systemd/system/lablink.service.d/aws.conf" <<-UNIT
		# Not without the volume, and port 80 may be its own.
		[Unit]
		RequiresMountsFor=/var/lib/lablink
		ConditionPathIsMountPoint=/var/lib/lablink

		[Service]
		AmbientCapabilities=CAP_NET_BIND_SERVICE
	UNIT
}

start() {
	local host=${SETUP_LISTEN%:*} port=${SETUP_LISTEN##*:}
	systemctl daemon-reload
	systemctl enable lablink
	systemctl restart lablink
	retry 40 curl -sS --fail --max-time 5 --output /dev/null "http://${host:-127.0.0.1}:$port/readyz" ||
		fail "LabLink does not start: journalctl -u lablink tells why"
}

main() {
	trap 'code=$?; [ "$code" -eq 0 ] || say "the set-up has failed" >&2' EXIT
	install_packages
	await_volume
	format_if_empty
	mount_volume
	install_programs
	make_user
	write_files
	"$programs/lablink" config validate "$etc/config.yaml" || fail "the configuration is wrong"
	start
	say "LabLink runs"
}

main
