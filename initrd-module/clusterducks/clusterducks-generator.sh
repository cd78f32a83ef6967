#!/bin/sh
# Where the initrd runs systemd: systemd would wait for a block device named as root= says.
# An empty unit of the same name, in the directory that wins, leaves /sysroot to dracut's mount hook.
case " $(cat /proc/cmdline) " in
*' root=clusterducks '*) ln -sf /dev/null "$2/sysroot.mount" ;;
esac
