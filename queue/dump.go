package queue

import (
	"encoding/binary"
	"hash/crc64"
)

// A new view reaches Redis as the value that DUMP would return for it, since one RESTORE costs half of HSET with 14 fields
// and PEXPIRE. The format is that of Redis' rdb.c and listpack.c: the type, the fields and values as one listpack, the
// version of the format, and a checksum. Every Redis since 7.0 reads it; for others the cycle script takes the fields out
// of it and writes them with HSET, so that all elements are texts, numbers too.
const (
	dumpHashListpack = 16 // type
	dumpVersion      = 10 // of Redis 7.0; later ones read it
	listpackHeader   = 6  // bytes: size (4), number of elements (2)
	listpackEnd      = 0xff
)

// dumpChecksums is the table of CRC-64/Jones, with its polynomial reversed.
type dumpChecksums crc64.Table

func newDumpChecksums() *dumpChecksums {
	return (*dumpChecksums)(crc64.MakeTable(0x95ac9329ac4bc9b5))
}

// sum is the checksum that DUMP appends. It begins with 0, where that of hash/crc64 begins with all bits set.
func (t *dumpChecksums) sum(b []byte) uint64 {
	return ^crc64.Update(^uint64(0), (*crc64.Table)(t), b)
}

// dumpSize is how many bytes the dump of a hash takes at most.
func dumpSize(fields []string) int { return 6 + listpackSize(fields) + 10 }

func listpackSize(fields []string) int {
	size := listpackHeader + 1
	for _, s := range fields {
		n := elementSize(len(s))
		size += n + backLengthSize(n)
	}
	return size
}

// appendHash appends the value of a hash with these fields: field, value, …. They must be fewer than 65535, and different.
func (t *dumpChecksums) appendHash(b []byte, fields []string) []byte {
	begin, size := len(b), listpackSize(fields)
	b = append(b, dumpHashListpack)
	switch { // the length of a string in rdb.c
	case size < 1<<6:
		b = append(b, byte(size))
	case size < 1<<14:
		b = append(b, 0x40|byte(size>>8), byte(size))
	default:
		b = binary.BigEndian.AppendUint32(append(b, 0x80), uint32(size))
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(size))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(fields)))
	for _, s := range fields {
		b = appendElement(b, s)
	}
	b = append(b, listpackEnd)
	b = binary.LittleEndian.AppendUint16(b, dumpVersion)
	return binary.LittleEndian.AppendUint64(b, t.sum(b[begin:]))
}

// elementSize is how many bytes a text of n bytes takes in a listpack, without the length behind it.
func elementSize(n int) int {
	switch {
	case n < 1<<6:
		return 1 + n
	case n < 1<<12:
		return 2 + n
	}
	return 5 + n
}

// backLengthSize is how many bytes the length behind an element of n bytes takes, with the bounds that listpack.c has.
func backLengthSize(n int) int {
	switch {
	case n <= 127:
		return 1
	case n < 16383:
		return 2
	case n < 2097151:
		return 3
	case n < 268435455:
		return 4
	}
	return 5
}

// appendElement appends a text to a listpack: its length, itself, and the length of both, from which a reader finds it
// backwards.
func appendElement(b []byte, s string) []byte {
	switch n := len(s); {
	case n < 1<<6:
		b = append(b, 0x80|byte(n))
	case n < 1<<12:
		b = append(b, 0xe0|byte(n>>8), byte(n))
	default:
		b = binary.LittleEndian.AppendUint32(append(b, 0xf0), uint32(n))
	}
	b = append(b, s...)
	n := elementSize(len(s))
	more := byte(0)
	for shift := 7 * (backLengthSize(n) - 1); shift >= 0; shift -= 7 {
		b = append(b, byte(n>>shift)&0x7f|more)
		more = 0x80
	}
	return b
}
