// Package keys makes the keys of the configuration, or gets them back, and leaves them in a tmpfs for the
// disks.
package keys

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"tdxvm/guest/internal/config"
	"tdxvm/guest/internal/disk"
	"tdxvm/guest/internal/fault"
	"tdxvm/guest/internal/luks"
	"tdxvm/guest/internal/secret"
	"tdxvm/guest/internal/tpm"
)

// Disks is what is asked about the disks; [disk.System] answers.
type Disks interface {
	Keys() (*secret.Store, error)
	IsUp(of *config.Disk) (bool, error)
	Inspect(ctx context.Context, of *config.Disk, key *config.Key) (*disk.Plan, error)
	PutSealed(name string, token *luks.Token) error
}

// Source is where keys come from.
type Source struct {
	Log   *slog.Logger
	Disks Disks
	// OpenTPM opens the TPM device of that path.
	OpenTPM func(path string) (*tpm.Device, error)
}

// Run provides all keys of the configuration. A key that is there already is left as it is.
func (s *Source) Run(ctx context.Context, conf *config.Config) error {
	store, err := s.Disks.Keys()
	if err != nil {
		return err
	}
	for index := range conf.Keys {
		key := &conf.Keys[index]
		if store.Has(key.Name) {
			s.Log.Info("there already", "key", key.Name)
			continue
		}
		if err := s.provide(ctx, conf, key, store); err != nil {
			return fault.Wrap(err, "", "key %q", key.Name)
		}
	}
	return nil
}

func (s *Source) provide(ctx context.Context, conf *config.Config, key *config.Key, store *secret.Store) error {
	var made *secret.Buffer
	var err error
	switch key.Strategy {
	case config.KeyRandom:
		made, err = secret.Random(key.SizeBytes)
	case config.KeyPipe:
		s.Log.Info("wait for the key", "key", key.Name, "pipe", key.Pipe.Path, "timeout_s", key.Pipe.TimeoutS)
		made, err = readPipe(ctx, key.Pipe.Path, key.SizeBytes, time.Duration(key.Pipe.TimeoutS)*time.Second)
	case config.KeyTPM:
		made, err = s.fromTPM(ctx, conf.DisksOf(key.Name), key)
	default:
		err = fmt.Errorf("strategy %q is not carried out", key.Strategy)
	}
	if err != nil || made == nil {
		return err
	}
	defer made.Close()
	if err := store.Write(key.Name, made.Bytes()); err != nil {
		return err
	}
	s.Log.Info("ready", "key", key.Name, "strategy", key.Strategy, "bytes", key.SizeBytes, "value", made)
	return nil
}

// survey is what the disks of a sealed key say.
type survey struct {
	// token is the sealed key in the headers of those that are opened, or nil.
	token *luks.Token
	// holder is a device that has it.
	holder string
	// fresh says why a disk is going to be formatted, or "".
	fresh string
	// up counts the disks that are mounted already.
	up int
}

// look reads the headers of all disks of a key. They must hold the same sealed key.
func (s *Source) look(ctx context.Context, disks []*config.Disk, key *config.Key) (*survey, error) {
	found := &survey{}
	for _, each := range disks {
		up, err := s.Disks.IsUp(each)
		if err != nil {
			return nil, err
		}
		if up {
			found.up++
			continue
		}
		plan, err := s.Disks.Inspect(ctx, each, key)
		if err != nil {
			return nil, err
		}
		if plan.Action == disk.ActionFormat {
			found.fresh = plan.Why
			continue
		}
		token := plan.Header.Token()
		if found.token != nil && !token.Equal(found.token) {
			return nil, fault.Refuse("attach disks that belong together, or give each a key of its own in the recipe",
				"%s and %s hold different sealed keys", found.holder, plan.Device)
		}
		found.token, found.holder = token, plan.Device
	}
	return found, nil
}

// fromTPM unseals the key in the headers of its disks. Where all of them are going to be formatted, it makes a new one and
// seals it. It returns nil where all of them are mounted, and so need no key.
func (s *Source) fromTPM(ctx context.Context, disks []*config.Disk, key *config.Key) (*secret.Buffer, error) {
	found, err := s.look(ctx, disks, key)
	if err != nil || found.up == len(disks) {
		return nil, err
	}
	if found.token == nil && found.up > 0 {
		return nil, fault.Refuse("start the machine again", "a disk is to be formatted with a key that is in the header of a disk in use")
	}
	device, err := s.OpenTPM(key.TPM.Device)
	if err != nil {
		return nil, err
	}
	defer device.Close()
	if found.token == nil {
		s.Log.Info("make and seal", "key", key.Name, "pcrs", fmt.Sprint(key.TPM.PCRs), "bank", key.TPM.Bank, "because", found.fresh)
		return s.makeSealed(device, key)
	}
	s.Log.Info("unseal", "key", key.Name, "pcrs", fmt.Sprint(key.TPM.PCRs), "bank", key.TPM.Bank, "header_of", found.holder)
	token := found.token
	made, err := device.Unseal(key.TPM, &tpm.Sealed{Public: token.Public, Private: token.Private, Ticket: token.Ticket, Values: token.Values}, key.SizeBytes, label(key))
	if err != nil || found.fresh == "" {
		return made, err
	}
	if err := s.Disks.PutSealed(key.Name, token); err != nil {
		made.Close()
		return nil, err
	}
	return made, nil
}

func (s *Source) makeSealed(device *tpm.Device, key *config.Key) (*secret.Buffer, error) {
	made, err := secret.Random(key.SizeBytes)
	if err != nil {
		return nil, err
	}
	sealed, err := device.Seal(key.TPM, made, label(key))
	if err == nil {
		err = s.Disks.PutSealed(key.Name, &luks.Token{
			Type:   luks.TokenType,
			Public: sealed.Public, Private: sealed.Private, Ticket: sealed.Ticket, Values: sealed.Values,
		})
	}
	if err != nil {
		made.Close()
		return nil, err
	}
	for index, pcr := range key.TPM.PCRs {
		s.Log.Info("sealed to", "key", key.Name, "pcr", pcr, "value", fmt.Sprintf("%x", sealed.Values[index]))
	}
	return made, nil
}

// label keeps the sealed key of one name from serving as that of another.
func label(key *config.Key) string { return "tdx-guest key " + key.Name }
