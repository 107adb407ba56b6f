#!/bin/sh
# Prints turbo, the build tag of internal/imaging, where the C compiler that is
# named (gcc by default) finds libjpeg-turbo to link statically; else nothing.
cd "$(dirname "$0")/../internal/imaging" || exit
if "${1:-gcc}" -nostartfiles -Wl,-e,aisle_jpeg -o /dev/null turbo.c -l:libjpeg.a 2>/dev/null; then
	echo turbo
fi
