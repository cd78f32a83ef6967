#!/bin/bash
# The dracut module of a device that boots from a clusterducks agent: what goes into its initrd.
# It never looks at the machine that builds the initrd: the same initrd boots every device.

check() {
	require_binaries blkid blockdev curl dd ip iscsistart mkfs.ext4 || return 1
	return 255
}

depends() {
	echo base fs-lib rootfs-block udev-rules
}

installkernel() {
	# The wired drivers that need no firmware file, because the machine that boots is not known here. What drives
	# adapters of servers' fabrics only is left out for its size: an image that needs one adds it by add_drivers+=.
	instmods virtio_net vmxnet3 hv_netvsc xen-netfront ena gve e1000 e1000e igb igc ixgbe i40e pcnet32 8139too 8139cp \
		r8169 r8152 ax88179_178a tg3 bnxt_en sky2 forcedeth jme alx atl1c atlantic mlx4_en mlx5_core
	instmods '=drivers/net/phy'
	# A disk of the machine's own, for the boots in which an image is made or repaired.
	instmods virtio_pci virtio_blk virtio_scsi virtio_console ahci ata_piix nvme sd_mod
	# A keyboard for the shell after a failure.
	instmods xhci_pci ehci_pci uhci_hcd ohci_pci usbhid hid_generic
	instmods iscsi_tcp libiscsi scsi_transport_iscsi iscsi_ibft crc32c crc32c_generic crc32c-intel
	instmods overlay ext4 xfs btrfs
}

# shellcheck disable=SC2154 # moddir and initdir are dracut's
install() {
	local part
	inst_multiple blkid blockdev cat chmod cp curl date dd head ip iscsistart ln mkdir mkfs.ext4 \
		mktemp mount mv rm sleep sync tr umount uname wc
	inst_multiple -o /etc/mke2fs.conf /etc/clusterducks/ca.pem
	inst_simple "$moddir/clusterducks-lib.sh" /lib/clusterducks/lib.sh
	for part in effects network agent disk root; do
		inst_simple "$moddir/$part.sh" "/lib/clusterducks/$part.sh"
	done
	inst_script "$moddir/clusterducks-boot.sh" /sbin/clusterducks-boot
	inst_script "$moddir/clusterducks-ibft.sh" /sbin/clusterducks-ibft
	inst_script "$moddir/clusterducks-generator.sh" /usr/lib/systemd/system-generators/clusterducks-generator
	mkdir -p "$initdir/etc/iscsi" "$initdir/run/lock"
	inst_hook cmdline 90 "$moddir/parse-clusterducks.sh"
	inst_hook initqueue/settled 50 "$moddir/settled-ibft.sh"
	inst_hook mount 20 "$moddir/mount-clusterducks.sh"
}
