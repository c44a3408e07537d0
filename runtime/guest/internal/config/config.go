// Package config is the one configuration file of the guest program. The compiler writes it as canonical
// JSON (keys sorted, no spaces, one newline at the end); it is part of the measured image. Reading is strict all
// the same: what is not understood is refused, never passed over.
//
// Every default is spelled out by the compiler: a key that is missing is the zero value of its type, and
// where zero makes no sense it is refused.
package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"tdxvm/guest/internal/fault"
	"tdxvm/guest/internal/strictjson"
)

// Path is where the compiler puts the configuration.
const Path = "/etc/tdx-guest/config.json"

// Version is the version of the schema that this program reads.
const Version = 1

var limits = strictjson.Limits{Bytes: 1 << 20, Depth: 12}

// Config is the whole file.
type Config struct {
	// Version must be [Version].
	Version int `json:"version"`
	// TestImage marks an image that is made for tests; without it, nothing that only pretends is allowed.
	TestImage bool `json:"test_image,omitempty"`
	// Keys are made or recovered by `tdx-guest key`.
	Keys []Key `json:"keys,omitempty"`
	// Disks are opened and mounted by `tdx-guest disk`.
	Disks []Disk `json:"disks,omitempty"`
	// Secrets is nil where the image takes none.
	Secrets *Secrets `json:"secrets,omitempty"`
	// Quote is nil where the image issues no quotes.
	Quote *Quote `json:"quote,omitempty"`
}

// Load reads and checks the configuration at path.
func Load(path string) (*Config, error) {
	const fix = "the compiler writes this file: compile the recipe again with the version that the image's tdx-guest has"
	file, err := os.Open(path)
	if err != nil {
		return nil, fault.Wrap(err, fix, "cannot read the configuration")
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, int64(limits.Bytes)+1))
	if err != nil {
		return nil, fault.Wrap(err, fix, "cannot read the configuration %s", path)
	}
	config, err := Parse(data)
	if err != nil {
		return nil, fault.Wrap(err, fix, "the configuration %s is refused", path)
	}
	return config, nil
}

// Parse decodes and checks a configuration.
func Parse(data []byte) (*Config, error) {
	var config Config
	if err := strictjson.Decode(data, limits, &config); err != nil {
		return nil, err
	}
	if err := config.check(); err != nil {
		return nil, err
	}
	return &config, nil
}

// Key returns the key of that name, or nil.
func (c *Config) Key(name string) *Key {
	for index := range c.Keys {
		if c.Keys[index].Name == name {
			return &c.Keys[index]
		}
	}
	return nil
}

// DisksOf returns the disks that are opened with the key of that name.
func (c *Config) DisksOf(key string) []*Disk {
	var disks []*Disk
	for index := range c.Disks {
		if c.Disks[index].Key == key {
			disks = append(disks, &c.Disks[index])
		}
	}
	return disks
}

func (c *Config) check() error {
	if c.Version != Version {
		return fmt.Errorf("version is %d, and this program reads version %d", c.Version, Version)
	}
	var errs []error
	names := map[string]bool{}
	for index := range c.Keys {
		key := &c.Keys[index]
		errs = append(errs, within(fmt.Sprintf("keys[%d]", index), key.check(), unique(names, key.Name), c.checkDisksOf(key)))
	}
	names = map[string]bool{}
	mounts := map[string]bool{}
	for index := range c.Disks {
		disk := &c.Disks[index]
		where := fmt.Sprintf("disks[%d]", index)
		errs = append(errs, within(where, disk.check(), unique(names, disk.Name), unique(mounts, disk.MountAt), c.checkKeyOf(disk)))
	}
	if c.Secrets != nil {
		errs = append(errs, within("secrets", c.Secrets.check()))
	}
	if c.Quote != nil {
		errs = append(errs, within("quote", c.Quote.check(c.TestImage)))
	}
	return errors.Join(errs...)
}

// checkDisksOf refuses a sealed key without a header to lie in.
func (c *Config) checkDisksOf(key *Key) error {
	if key.Strategy == KeyTPM && len(c.DisksOf(key.Name)) == 0 {
		return errors.New("no disk uses it, and a key that is sealed to the TPM lies in the header of its disk")
	}
	return nil
}

// checkKeyOf holds a disk against the key that it names.
func (c *Config) checkKeyOf(disk *Disk) error {
	key := c.Key(disk.Key)
	switch {
	case key == nil:
		return fmt.Errorf("key %q is not among the keys", disk.Key)
	case key.Strategy == KeyRandom && disk.Format != FormatAlways:
		return fmt.Errorf("key %q is random, so another one on each boot: format must be %q, not %q", key.Name, FormatAlways, disk.Format)
	}
	return nil
}

// Refusals that several sections share.

var namePattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

func checkName(name string) error {
	if !namePattern.MatchString(name) {
		return fmt.Errorf("name %q must be a-z, 0-9 and \"-\", start with a letter and have at most 32 characters", name)
	}
	return nil
}

// checkPath refuses what is not one absolute, plain path.
func checkPath(field, path string) error {
	switch {
	case !filepath.IsAbs(path), filepath.Clean(path) != path, path == "/":
		return fmt.Errorf("%s %q must be an absolute path without \".\", \"..\" and doubled or closing slashes", field, path)
	case len(path) > 512 || strings.ContainsFunc(path, isControl):
		return fmt.Errorf("%s %q has control characters or more than 512 bytes", field, path)
	}
	return nil
}

func isControl(char rune) bool { return char < ' ' || char == 0x7f }

func oneOf(field, value string, allowed ...string) error {
	for _, each := range allowed {
		if value == each {
			return nil
		}
	}
	return fmt.Errorf("%s %q is not one of %s", field, value, strings.Join(allowed, ", "))
}

func inRange(field string, value, low, high int) error {
	if value < low || value > high {
		return fmt.Errorf("%s is %d and must be %d to %d", field, value, low, high)
	}
	return nil
}

func unique(seen map[string]bool, value string) error {
	if seen[value] {
		return fmt.Errorf("%q is there twice", value)
	}
	seen[value] = true
	return nil
}

// within puts the place in front of each of the errors; it is nil where all of them are.
func within(where string, errs ...error) error {
	joined := errors.Join(errs...)
	if joined == nil {
		return nil
	}
	var placed []error
	for _, line := range strings.Split(joined.Error(), "\n") {
		placed = append(placed, errors.New(where+": "+line))
	}
	return errors.Join(placed...)
}
