#!/bin/sh
# dracut's mount hook: hands the whole boot to a process of its own. Sourced by dracut.
if [ "$(getarg root=)" = clusterducks ] && ! ismounted "$NEWROOT"; then
	NEWROOT=$NEWROOT /sbin/clusterducks-boot
fi
