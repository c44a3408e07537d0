// Package smbios reads the strings that a host gives to its machine.
package smbios

import "bytes"

// TablesPath is where Linux shows the structures of SMBIOS, for root alone (drivers/firmware/dmi_scan.c).
const TablesPath = "/sys/firmware/dmi/tables/DMI"

// DMTF DSP0134: section 6.1.2 has the header of a structure, 6.1.3 the strings behind it, 7.12 and 7.128 the types.
const (
	headerBytes    = 4
	typeOEMStrings = 11
	typeEnd        = 127
)

// OEMStrings returns the OEM strings (type 11) of all structures in order. The table is the host's: what is behind
// a structure that does not hold together is not looked at.
func OEMStrings(table []byte) []string {
	var found []string
	for len(table) >= headerBytes {
		kind, length := table[0], int(table[1])
		if kind == typeEnd || length < headerBytes || length > len(table) {
			break
		}
		texts, rest, whole := cutStrings(table[length:])
		if !whole {
			break
		}
		if kind == typeOEMStrings {
			found = append(found, texts...)
		}
		table = rest
	}
	return found
}

// cutStrings reads strings that each end with a NUL byte, up to the empty one that ends them all. A structure
// without strings has two NUL bytes.
func cutStrings(data []byte) (texts []string, rest []byte, whole bool) {
	for {
		text, behind, found := bytes.Cut(data, []byte{0})
		if !found {
			return nil, nil, false
		}
		data = behind
		if len(text) > 0 {
			texts = append(texts, string(text))
			continue
		}
		if len(texts) == 0 {
			if len(data) == 0 || data[0] != 0 {
				return nil, nil, false
			}
			data = data[1:]
		}
		return texts, data, true
	}
}
