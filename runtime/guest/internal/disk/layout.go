// Package disk chooses, formats, opens, checks, grows and mounts the encrypted disks.
//
// A disk that was formatted here looks like this, and is an ordinary LUKS2 disk to every other tool:
//
//	0         two copies of the LUKS2 header, 16 KiB each
//	32 KiB    keyslots, 4 MiB
//	0xFF0000  first slot of the journal, one sector
//	0xFF8000  second slot of the journal, one sector
//	16 MiB    encrypted data, up to the end of the device
//
// Formatting must never destroy what somebody else wrote, nor leave a disk behind that a later boot takes for a
// good one. So cryptsetup makes the header in a tmpfs, and all that is written to the first 16 MiB is written here, in
// this order, each step synced:
//
//	unless the disk is empty: journal "clearing", zeros over the old start and end
//	journal "formatting", file system (in the encrypted part)
//	journal "committing", keyslots, second copy of the header, first copy
//	journal "ready"
//
// A machine that is killed at any point leaves an unfinished journal without a whole header of the same UUID (format again:
// nobody can have stored anything), or with it (the file system is whole: go on), or nothing at all (still empty). Each stage
// says what the start of the disk can hold: zeros while formatting, parts of our header while committing. Anything else
// was written by somebody who has used the disk since, and is not formatted.
package disk

const (
	headerBytes    = 16 << 10
	keyslotsBytes  = 4 << 20
	journalFirst   = 0xFF0000
	journalSecond  = 0xFF8000
	dataOffset     = 16 << 20
	sectorBytes    = 512
	tailBytes      = 1 << 20 // where GPT, md and ZFS keep the copies of their labels
	minDeviceBytes = 64 << 20
)
