# shellcheck shell=sh disable=SC2016,SC2086
# The whole of clusterducks-boot on a folder that stands for the machine: each line of `failures` is one way to fail, with
# what is said and what is done; below it, what must hold when nothing fails. A vDisk is a real file with a real mkfs.
token=$(printf '0123456789abcdef%.0s' 1 2 3 4)
line="root=clusterducks ip=10.77.0.10::10.77.0.1:255.255.255.0:pc-01:cdboot:none:10.77.0.1 ifname=cdboot:52:54:00:00:00:01 cd.server=http://10.77.0.1 cd.token=$token"
cases=0 failed=0

# A machine with one interface whose disk sdb is a blank vDisk of 16 MiB.
new_machine() {
	rm -rf "$CD_WORK/m"
	T=$CD_WORK/m
	mkdir -p "$T/sys/class/net/eth0/device" "$T/dev" "$T/run" "$T/root/etc" "$T/lib"
	echo 52:54:00:00:00:01 >"$T/sys/class/net/eth0/address"
	echo 1 >"$T/sys/class/net/eth0/carrier"
	: >"$T/mounts" && : >"$T/log" && : >"$T/events" && : >"$T/console"
	truncate -s 16M "$T/dev/sdb"
	for file in effects network agent disk root; do
		cp "../clusterducks/$file.sh" "$T/lib/"
	done
	cp ../clusterducks/clusterducks-lib.sh "$T/lib/lib.sh"
	printf '%s\n' "$line cd.onfail=retry" >"$T/cmdline"
}

# boot [VARIABLE=VALUE...]: one boot with two attempts at most; its status.
boot() {
	env PATH="$PWD/stubs:$PATH" T="$T" CD_LIB="$T/lib" CD_RUN="$T/run" CD_SYS="$T/sys" CD_DEV="$T/dev" CD_MOUNTS="$T/mounts" \
		CD_CA="$T/ca.pem" CD_CONSOLE="$T/console" CD_SYSRQ="$T/sysrq" CD_CMDLINE="$T/cmdline" NEWROOT="$T/root" \
		CD_WAIT_S=0 CD_PAUSE_S=0 CD_ATTEMPTS=2 "$@" $CD_SHELL ../clusterducks/clusterducks-boot.sh >>"$T/stdout" 2>&1
}

# check NAME COMMAND...
check() {
	name=$1
	shift
	cases=$((cases + 1))
	"$@" && return 0
	failed=$((failed + 1))
	printf '%s: boot: %s: this does not hold: %s\n' "$CD_SHELL" "$name" "$*"
	sed 's/^/    /' "$T/console" "$T/stdout" | tail -n 12
}

says() { grep -qF -- "$1" "$T/console"; }
tells_agent() { grep -qF -- "$1" "$T/events"; }
logged() { grep -qF -- "$1" "$T/log"; }
not() { ! "$@"; }
attempts() { [ "$(grep -cF 'FAILED:' "$T/console")" -eq "$1" ]; }
rebooted() { [ -e "$T/sysrq" ]; }
untouched() { cmp -s "$T/dev/sdb" "$T/before"; }

# What a machine or a vDisk is like before the boot.
setup_none() { :; }
setup_no_nic() { rm -rf "$T/sys/class/net/eth0"; }
setup_bond() { rm -rf "$T/sys/class/net/eth0/device"; }
setup_no_link() { echo 0 >"$T/sys/class/net/eth0/carrier"; }
setup_no_token() { echo "root=clusterducks" >"$T/cmdline"; }
setup_https() { sed -i s,http://,https://, "$T/cmdline"; }
setup_other_label() { mkfs.ext4 -q -F -L other "$T/dev/sdb"; }
setup_partitioned() { printf '\125\252' | dd of="$T/dev/sdb" bs=1 seek=510 conv=notrunc 2>/dev/null && printf '\203' | dd of="$T/dev/sdb" bs=1 seek=450 conv=notrunc 2>/dev/null; }
setup_data_begins() { echo data | dd of="$T/dev/sdb" bs=1 seek=700000 conv=notrunc 2>/dev/null; }
setup_data_ends() { echo data | dd of="$T/dev/sdb" bs=1 seek=16000000 conv=notrunc 2>/dev/null; }
setup_small() { truncate -s 4M "$T/dev/sdb"; }
setup_note_of_other() { printf 'clusterducks:%-19s' cd-ffffffffff | dd of="$T/dev/sdb" bs=1M seek=15 conv=notrunc 2>/dev/null; }
setup_link() { ln -s /srv "$T/root/srv"; }
setup_spoilt() { sed 's/^mode=.*/mode=raw/' metadata/overlay >"$T/spoilt"; }

while IFS='|' read -r name setup stubs said attempts also; do
	case $name in
	'' | '#'*) continue ;;
	esac
	new_machine
	"setup_$setup"
	cp "$T/dev/sdb" "$T/before"
	set -f
	IFS=,
	# shellcheck disable=SC2086 # the words are the variables
	set -- $stubs
	unset IFS
	set +f
	[ "$setup" != spoilt ] || set -- "$@" "STUB_META=$T/spoilt"
	boot "$@"
	check "$name" says "FAILED: $said"
	check "$name" says "WHAT TO DO: "
	check "$name" attempts "$attempts"
	check "$name" rebooted
	case $also in
	*told*) check "$name" tells_agent "step=failed" ;;
	esac
	case $also in
	*untouched*) check "$name" untouched ;;
	esac
	case $also in
	*no-tmpfs*) check "$name" not logged "mount -t tmpfs" ;;
	esac
done <failures

new_machine
boot
check "an overlay boot succeeds" [ $? -eq 0 ]
check "an overlay boot" logged "mount -t ext4 -o ro,noload $T/dev/sda2 $T/run/lower"
check "an overlay boot" logged "mount -t tmpfs -o mode=0755,size=50% clusterducks $T/run/upper"
check "an overlay boot" logged "lowerdir=$T/run/lower,upperdir=$T/run/upper/upper/generation.lab.g1"
check "an overlay boot" logged "ip addr replace 10.77.0.10/24 dev cdboot"
check "an overlay boot" logged "ip route replace default via 10.77.0.1 dev cdboot"
check "an overlay boot" tells_agent step=initrd
check "an overlay boot" tells_agent step=root
check "its root" [ "$(cat "$T/root/etc/hostname" "$T/root/etc/machine-id")" = "pc-01
0123456789abcdef0123456789abcdef" ]
check "the token goes by standard input" logged "curl< header = \"Authorization: Bearer $token\""
check "the token is not an argument" [ "$(grep -F "$token" "$T/log" | grep -cvF 'curl< ')" -eq 0 ]
check "the secrets do not outlive the initrd" [ ! -e "$T/run/metadata" ]
check "only root may read the token" [ "$(stat -c %a "$T/run/token")" = 600 ]

new_machine
sed -i 's/$/ cd.tmpfs=2g/' "$T/cmdline"
boot
check "cd.tmpfs sets the size" logged "mount -t tmpfs -o mode=0755,size=2g"

new_machine
setup_https
echo ca >"$T/ca.pem"
boot
check "https is verified against the embedded CA" logged "curl< cacert = \"$T/ca.pem\""
check "https never goes back to http" logged 'curl< proto = "=https"'
check "https is verified" not grep -qE 'insecure|curl .* -k' "$T/log"

new_machine
boot STUB_META=metadata/vdisk
check "a blank vDisk is made" [ $? -eq 0 ]
check "a blank vDisk gets its label" [ "$(blkid -p -o value -s LABEL "$T/dev/sdb")" = cd-0123456789 ]
check "the note is gone when it is made" [ "$(tail -c 1048576 "$T/dev/sdb" | tr -d '\000' | wc -c)" -eq 0 ]
check "the vDisk is the upper" logged "mount -t ext4 $T/dev/sdb $T/run/upper"
check "no tmpfs beside a vDisk" not logged "mount -t tmpfs"
check "the machine-id is kept on it" [ "$(cat "$T/run/upper/identity/machine-id")" = 0123456789abcdef0123456789abcdef ]
cp "$T/dev/sdb" "$T/before"
rm -rf "$T/sys/class/iscsi_session" && mv "$T/sys/class/net/cdboot" "$T/sys/class/net/eth0" && : >"$T/mounts"
echo fedcba9876543210fedcba9876543210 >"$T/run/upper/identity/machine-id"
echo key >"$T/run/upper/identity/ssh/ssh_host_ed25519_key"
sed 's/generation.lab.g1/generation.lab.g2/' metadata/vdisk >"$T/g2"
boot STUB_META="$T/g2"
check "a vDisk is used again as it is" untouched
check "a vDisk's machine-id wins" [ "$(cat "$T/root/etc/machine-id")" = fedcba9876543210fedcba9876543210 ]
check "host keys come back" [ "$(cat "$T/root/etc/ssh/ssh_host_ed25519_key")" = key ]
check "each generation has its own upper" logged "upperdir=$T/run/upper/upper/generation.lab.g2"

new_machine
printf 'clusterducks:%-19s' cd-0123456789 | dd of="$T/dev/sdb" bs=1M seek=15 conv=notrunc 2>/dev/null
echo half | dd of="$T/dev/sdb" bs=1 seek=4096 conv=notrunc 2>/dev/null
boot STUB_META=metadata/vdisk
check "a making that was cut short is done again" [ "$(blkid -p -o value -s LABEL "$T/dev/sdb")" = cd-0123456789 ]

new_machine
boot STUB_META=metadata/data
check "a data vDisk is mounted below the new root" logged "mount -t ext4 $T/dev/sdb $T/root/srv/data"
check "identity is kept on a data vDisk too" [ -s "$T/root/srv/data/.clusterducks-identity/machine-id" ]

new_machine
printf 'from the image\n' >"$T/outside" && ln -s "$T/outside" "$T/root/etc/hostname"
boot
check "a link in the image is replaced, not followed" [ "$(cat "$T/outside")" = "from the image" ]

new_machine
sed -i 's/cd.onfail=retry/cd.onfail=reboot/' "$T/cmdline"
boot STUB_STATUS=503
check "cd.onfail=reboot reboots at the first failure" attempts 1
check "cd.onfail=reboot reboots" rebooted

# The shell's input is the console: here a file, whose first line ends the boot that would try for ever.
new_machine
sed -i 's/cd.onfail=retry/cd.onfail=shell/' "$T/cmdline"
echo '        echo "a shell said this"; kill -9 $PPID' >"$T/console"
boot STUB_STATUS=503
check "cd.onfail=shell gives a shell" says "leave it with exit"
check "the shell reads the console" grep -qx ".*a shell said this" "$T/console"
check "cd.onfail=shell does not reboot" not rebooted

# The firmware's table as the kernel shows it: some fields end without a newline.
firmware_table() {
	nic=$T/sys/firmware/ibft/ethernet0
	mkdir -p "$nic"
	echo 52:54:00:00:00:01 >"$nic/mac"
	printf '%s' 10.77.0.10 >"$nic/ip-addr"
	printf '%s' 255.255.255.0 >"$nic/subnet-mask"
	printf '%s' 0.0.0.0 >"$nic/gateway"
	printf '%s' 0.0.0.0 >"$nic/primary-dns"
}

ibft() {
	env PATH="$PWD/stubs:$PATH" T="$T" CD_LIB="$T/lib" CD_RUN="$T/run" CD_SYS="$T/sys" CD_CONSOLE="$T/console" CD_WAIT_S=0 \
		$CD_SHELL ../clusterducks/clusterducks-ibft.sh >>"$T/stdout" 2>&1
}

new_machine
firmware_table
ibft
check "the firmware's address is taken" logged "10.77.0.10/24"
check "the firmware's disk is opened" logged "iscsistart -b"
check "the firmware's table without a gateway is no fault" not says "FAILED"

new_machine
firmware_table
: >"$nic/subnet-mask"
ibft
check "a table without a mask is named" says "has no usable subnet mask"
check "nothing is opened by a table without a mask" not logged "iscsistart"

new_machine
ibft
check "no table, nothing done" not logged "iscsistart"

printf '%s: boot: %s checks, %s failed\n' "$CD_SHELL" "$cases" "$failed"
[ "$failed" -eq 0 ]
