# shellcheck shell=sh
# The network interface that this boot uses: found by MAC, named, given its static address. Sourced by clusterducks-boot.

# cd_interface_of MAC: the interface of a piece of hardware that has this MAC; fails while there is none.
# A bond or VLAN above it repeats the MAC, but has no device below it in sysfs.
cd_interface_of() {
	for cd_entry in "$CD_SYS"/class/net/*; do
		[ -e "$cd_entry/device" ] || continue
		IFS= read -r cd_found <"$cd_entry/address" || continue
		[ "$cd_found" = "$1" ] || continue
		printf '%s\n' "${cd_entry##*/}"
		return 0
	done
	return 1
}

# udev may rename the interface in the same moment, so the name is looked up anew after each failure.
cd_name_interface() { # MAC NAME
	cd_now=$(cd_interface_of "$1") || return 1
	[ "$cd_now" = "$2" ] && return 0
	ip link set dev "$cd_now" down && ip link set dev "$cd_now" name "$2"
}

cd_has_carrier() {
	[ "$(cat "$CD_SYS/class/net/$1/carrier" 2>/dev/null)" = 1 ]
}

# cd_network_up MAC ADDRESS PREFIX GATEWAY INTERFACE DNS: a dash for what there is none of.
cd_network_up() {
	cd_wait "$CD_WAIT_S" cd_name_interface "$1" "$5" ||
		cd_fail again "network interface" "no network interface with the MAC $1 showed up" \
			"check that the initrd holds its driver, and the device's MAC in the panel" || return 1
	ip link set dev "$5" up ||
		cd_fail again "network interface" "$5 can't be set up" "look at the kernel's messages above" || return 1
	cd_wait "$CD_WAIT_S" cd_has_carrier "$5" ||
		cd_fail again "network interface" "$5 ($1) has no link" "check the cable and the switch port" || return 1
	ip addr replace "$2/$3" dev "$5" ||
		cd_fail again "network interface" "the address $2/$3 can't be set on $5" "check the device's address in the panel" || return 1
	if [ "$4" != - ]; then
		ip route replace default via "$4" dev "$5" ||
			cd_fail again "network interface" "the gateway $4 can't be set" "check that it lies in the subnet of $2/$3" || return 1
	fi
	[ "$6" = - ] || printf 'nameserver %s\n' "$6" >/etc/resolv.conf
}
