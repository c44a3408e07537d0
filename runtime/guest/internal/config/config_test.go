package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const samples = "../../testdata"

func TestSamplesAreRightAndCanonical(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(samples, "*.json"))
	if err != nil || len(paths) < 3 {
		t.Fatalf("samples: %v %v", paths, err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(data); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		var loose any
		if err := json.Unmarshal(data, &loose); err != nil {
			t.Fatal(err)
		}
		canonical, err := json.Marshal(loose) // sorts keys, writes no spaces
		if err != nil {
			t.Fatal(err)
		}
		if string(data) != string(canonical)+"\n" {
			t.Errorf("%s is not canonical JSON: want\n%s", path, canonical)
		}
	}
}

func TestPCRsThatHoldTheImage(t *testing.T) {
	for _, pcrs := range [][]int{{4}, {2}, {2, 4}, {2, 9, 11, 12, 13}, {4, 9, 11, 12, 13}, {0, 2, 7}} {
		if err := (&TPM{Device: "/dev/tpmrm0", Bank: "sha256", PCRs: pcrs}).check(); err != nil {
			t.Errorf("%v: %v", pcrs, err)
		}
	}
}

// TestRefusals changes one thing of a good sample at a time.
func TestRefusals(t *testing.T) {
	cases := []struct{ name, sample, old, new, want string }{
		{"other version", "tpm-disk", `"version":1`, `"version":2`, "version is 2"},
		{"no version", "tpm-disk", `,"version":1`, ``, "version is 0"},
		{"unknown key", "tpm-disk", `"version":1`, `"extra":1,"version":1`, `unknown field "extra"`},
		{"repeated key", "tpm-disk", `"version":1`, `"version":1,"version":1`, `"version" is there twice`},
		{"key in another case", "tpm-disk", `"version":1`, `"Version":1`, `"Version" is unknown`},
		{"key that folds to ours", "tpm-disk", `"keys":`, "\"\u212aeys\":", "is unknown"},
		{"text behind", "tpm-disk", "}\n", "}{}\n", "more text behind"},
		{"truncated", "tpm-disk", "}\n", "", "unexpected EOF"},
		{"number as text", "tpm-disk", `"size_bytes":64`, `"size_bytes":"64"`, "is a JSON string"},
		{"key name", "tpm-disk", `"name":"disk"`, `"name":"../disk"`, `name "../disk" must be`},
		{"key size", "tpm-disk", `"size_bytes":64`, `"size_bytes":16`, "size_bytes is 16"},
		{"key strategy", "tpm-disk", `"strategy":"tpm"`, `"strategy":"nv"`, `strategy "nv" is not one of`},
		{"tdx", "tpm-disk", `"strategy":"tpm"`, `"strategy":"tdx"`, "needs a key broker"},
		{"section of another strategy", "scratch", `"strategy":"random"`, `"pipe":{"path":"/run/p","timeout_s":1},"strategy":"random"`, `section "pipe" belongs to strategy "pipe"`},
		{"strategy without section", "scratch", `"strategy":"random"`, `"strategy":"tpm"`, `strategy "tpm" needs the section "tpm"`},
		{"sealed to nothing", "tpm-disk", `"pcrs":[4,7,11]`, `"pcrs":[]`, "opens everywhere"},
		{"PCR too high", "tpm-disk", `"pcrs":[4,7,11]`, `"pcrs":[4,7,24]`, "ascending numbers from 0 to 23"},
		{"PCR twice", "tpm-disk", `"pcrs":[4,7,11]`, `"pcrs":[4,7,7]`, "ascending numbers"},
		{"PCRs without the image's", "tpm-disk", `"pcrs":[4,7,11]`, `"pcrs":[0,11]`, "lack the register that holds the image's hash"},
		{"PCR of the firmware alone", "tpm-disk", `"pcrs":[4,7,11]`, `"pcrs":[0]`, "lack the register"},
		{"PCR of Secure Boot alone", "tpm-disk", `"pcrs":[4,7,11]`, `"pcrs":[7]`, "lack the register"},
		{"PCRs that anybody can extend", "tpm-disk", `"pcrs":[4,7,11]`, `"pcrs":[9,11,12,13]`, "lack the register"},
		{"bank", "tpm-disk", `"bank":"sha256"`, `"bank":"sha1"`, `bank "sha1" is not one of`},
		{"pipe without an end", "pipe-never", `"timeout_s":60`, `"timeout_s":0`, "timeout_s is 0"},
		{"pipe path", "pipe-never", `"/run/key-pipe"`, `"run/key-pipe"`, "must be an absolute path"},
		{"format", "tpm-disk", `"on_initialize"`, `"sometimes"`, `format "sometimes" is not one of`},
		{"null cipher", "tpm-disk", `"aes-xts-plain64"`, `"cipher_null-ecb"`, `cipher "cipher_null-ecb" is not one of`},
		{"file system", "tpm-disk", `"fs":"ext4"`, `"fs":"vfat"`, `fs "vfat" is not one of ext4`},
		{"mount option", "tpm-disk", `["noexec"]`, `["dev"]`, `option "dev" is not one of`},
		{"mount at root", "tpm-disk", `"/persistent"`, `"/"`, "must be an absolute path"},
		{"mount with dots", "tpm-disk", `"/persistent"`, `"/a/../etc"`, "must be an absolute path"},
		{"device outside of /dev", "tpm-disk", `"/dev/vdb"`, `"/etc/shadow"`, "must be below /dev"},
		{"largest with a path", "tpm-disk", `"strategy":"path"`, `"strategy":"largest"`, "takes no path"},
		{"no pattern", "pipe-never", `virtio-data*`, `virtio-[`, "is no pattern"},
		{"unknown key of a disk", "tpm-disk", `"key":"disk"`, `"key":"none"`, `key "none" is not among the keys`},
		{"sealed key without a disk", "tpm-disk", `"keys":[`, `"keys":[{"name":"other","size_bytes":64,"strategy":"tpm","tpm":{"bank":"sha256","device":"/dev/tpmrm0","pcrs":[4]}},`, "no disk uses it"},
		{"random key, kept disk", "scratch", `"format":"always"`, `"format":"on_initialize"`, "another one on each boot"},
		{"key length", "tpm-disk", `"key_bits":512`, `"key_bits":128`, "key_bits is 128"},
		{"sector size", "tpm-disk", `"sector_bytes":4096`, `"sector_bytes":1024`, "sector_bytes is 1024"},
		{"integrity", "scratch", `"hmac-sha256"`, `"crc32"`, `integrity "crc32" is not one of`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(samples, c.sample+".json"))
			if err != nil {
				t.Fatal(err)
			}
			changed := strings.Replace(string(data), c.old, c.new, 1)
			if changed == string(data) {
				t.Fatalf("%q is not in the sample", c.old)
			}
			_, err = Parse([]byte(changed))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestAllFaultsComeAtOnce(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(samples, "tpm-disk.json"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(`"size_bytes":64`, `"size_bytes":1`, `"fs":"ext4"`, `"fs":"x"`, `"/persistent"`, `"p"`).Replace(string(data))
	_, err = Parse([]byte(text))
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("want three lines, got %v", err)
	}
}

func TestTooLongAndTooDeep(t *testing.T) {
	for _, text := range []string{strings.Repeat(" ", limits.Bytes+1), strings.Repeat("[", 20) + strings.Repeat("]", 20)} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), "allowed") {
			t.Errorf("got %v", err)
		}
	}
}

// FuzzParse holds that no text makes the parser panic, and that what it takes passes once more when it is
// written again: nothing was passed over.
func FuzzParse(f *testing.F) {
	paths, _ := filepath.Glob(filepath.Join(samples, "*.json"))
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		config, err := Parse(data)
		if err != nil {
			return
		}
		again, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(again); err != nil {
			t.Errorf("written again, it is refused: %v\n%s", err, again)
		}
	})
}
