#!/bin/sh
# dracut's cmdline hook: says that root=clusterducks is ours to mount. Sourced by dracut.
# shellcheck disable=SC2034 # dracut reads rootok
if [ "$(getarg root=)" = clusterducks ]; then
	root=clusterducks
	rootok=1
fi
