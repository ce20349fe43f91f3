#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
# In a guest with the device and its driver: prints TAP, and exits with 1 where a test failed.
#   barter lab exec --device examples/checksum.ts --module examples/driver/checksum.ko -- examples/driver/test.sh
device=$(grep -l 0x0c5c /sys/bus/pci/devices/*/device | head -n 1)
device=${device%/device}
work=$(mktemp -d)
failed=0
number=0

# gzip stores a file's CRC-32 in the four bytes before the last four.
crc32() { gzip -c "$1" | tail -c 8 | od -An -tx4 -N4 | tr -d ' '; }

# The device's sum of a file.
device_sum() { dd if="$1" of=/dev/checksum bs=64K count=1 2>"$work/error" && head -n 1 /dev/checksum; }

result() {
	number=$((number + 1))
	if [ "$2" = "$3" ]; then
		echo "ok $number $1"
	else
		echo "# expected $3, seen ${2:-nothing: $(cat "$work/error")}"
		echo "not ok $number $1"
		failed=1
	fi
}

sums_agree() {
	head -c "$2" /dev/urandom > "$work/bytes"
	result "$1" "$(device_sum "$work/bytes")" "$(crc32 "$work/bytes")"
}

echo "TAP version 13"
echo "1..6"
sums_agree "one byte" 1
sums_agree "a page" 4096
sums_agree "64 KiB" 65536
echo 1 > "$device/reset"
result "a reset takes the last sum away" "$(head -n 1 /dev/checksum)" ""
sums_agree "a sum after a reset" 4096
sums_agree "and another one" 1000
exit $failed
