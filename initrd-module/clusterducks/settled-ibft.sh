#!/bin/sh
# dracut's initqueue hook: a machine whose firmware opened its disk over iSCSI (sanboot) opens it again. Sourced by dracut.
if getargbool 0 rd.iscsi.firmware && [ ! -e /run/clusterducks/ibft ]; then
	/sbin/clusterducks-ibft
fi
