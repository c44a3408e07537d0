package secrets

import (
	"encoding/base64"
	"errors"
	"io/fs"
	"path"
	"strings"

	"tdxvm/guest/internal/config"
	"tdxvm/guest/internal/fault"
	"tdxvm/guest/internal/smbios"
)

// CredentialPrefix starts the names of the credentials that hold secrets: tdx.secret.NAME.
const CredentialPrefix = "tdx.secret."

// How an SMBIOS string begins that holds a credential, as text or in base64 (systemd.system-credentials(7)).
const (
	textCredential   = "io.systemd.credential:"
	binaryCredential = "io.systemd.credential.binary:"
)

// maxTablesBytes bounds what is read of SMBIOS.
const maxTablesBytes = 64 << 20

// takeCredentials takes the credentials that the machine was started with, values as they are. The unit's directory
// has those that systemd imported. In a confidential machine systemd imports none of the host's, as they could
// configure all of the system (src/core/import-creds.c); so SMBIOS is read here too, for the names of the recipe alone.
// The host sets them, so they are as untrusted as a post.
func takeCredentials(directory, tables string, limit int, opened *store) error {
	if len(opened.missing()) == 0 {
		return nil
	}
	table, err := readBounded(tables, maxTablesBytes, nil)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	strung := smbios.OEMStrings(table)
	var entries []entry
	var faults []Fault
	for index := range opened.rules {
		each := &opened.rules[index]
		if opened.received(each.Name) {
			continue
		}
		data, err := credential(CredentialPrefix+each.Name, directory, strung, limit)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		text := string(data)
		if each.Schema.Kind == config.KindInt {
			text = strings.TrimSuffix(text, "\n")
		}
		raw, wrong := each.asJSON(text)
		faults = append(faults, wrong...)
		entries = append(entries, entry{name: each.Name, raw: raw})
	}
	if len(faults) > 0 {
		return refuseSource(faults, credentialsSource)
	}
	return takeAll(opened, entries, credentialsSource)
}

// credentialsSource is what messages call the source.
const credentialsSource = "the credentials " + CredentialPrefix + "NAME of the machine"

// credential is the value of one: what systemd imported, else the first string of SMBIOS; else fs.ErrNotExist.
func credential(name, directory string, strung []string, limit int) ([]byte, error) {
	if directory != "" {
		data, err := readBounded(path.Join(directory, name), int64(limit), nil)
		if !errors.Is(err, fs.ErrNotExist) {
			return data, err
		}
	}
	for _, text := range strung {
		if value, found := strings.CutPrefix(text, textCredential+name+"="); found {
			return bounded([]byte(value), name, limit)
		}
		if value, found := strings.CutPrefix(text, binaryCredential+name+"="); found {
			data, err := base64.StdEncoding.DecodeString(value)
			if err != nil { // the error would quote it
				return nil, fault.Refuse("encode it as base64 -w0 does", "the credential %s is not base64 in SMBIOS", name)
			}
			return bounded(data, name, limit)
		}
	}
	return nil, fs.ErrNotExist
}

func bounded(data []byte, name string, limit int) ([]byte, error) {
	if len(data) > limit {
		return nil, fault.Refuse("", "the credential %s has more than %d bytes", name, limit)
	}
	return data, nil
}
