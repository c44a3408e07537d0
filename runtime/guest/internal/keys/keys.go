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

// Source is where keys come from.
type Source struct {
	Log    *slog.Logger
	System *disk.System
	// OpenTPM opens the TPM device of that path.
	OpenTPM func(path string) (*tpm.Device, error)
}

// Run provides all keys of the configuration. A key that is there already is left as it is.
func (s *Source) Run(ctx context.Context, conf *config.Config) error {
	store, err := s.System.Keys()
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
		made, err = s.fromTPM(ctx, conf.DisksOf(key.Name)[0], key)
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

// fromTPM makes and seals a key where its disk is going to be formatted, and unseals the one in the header of
// its disk else. It returns nil where the disk is mounted, and so needs no key.
func (s *Source) fromTPM(ctx context.Context, of *config.Disk, key *config.Key) (*secret.Buffer, error) {
	if up, err := s.System.IsUp(of); err != nil || up {
		return nil, err
	}
	plan, err := s.System.Inspect(ctx, of, key)
	if err != nil {
		return nil, err
	}
	device, err := s.OpenTPM(key.TPM.Device)
	if err != nil {
		return nil, err
	}
	defer device.Close()
	if plan.Action != disk.ActionFormat {
		s.Log.Info("unseal", "key", key.Name, "pcrs", fmt.Sprint(key.TPM.PCRs), "bank", key.TPM.Bank, "header_of", plan.Device)
		token := plan.Header.Token()
		sealed := &tpm.Sealed{Public: token.Public, Private: token.Private, Ticket: token.Ticket, Values: token.Values}
		return device.Unseal(key.TPM, sealed, key.SizeBytes, label(key))
	}
	s.Log.Info("make and seal", "key", key.Name, "pcrs", fmt.Sprint(key.TPM.PCRs), "bank", key.TPM.Bank, "because", plan.Why)
	return s.makeSealed(device, key)
}

func (s *Source) makeSealed(device *tpm.Device, key *config.Key) (*secret.Buffer, error) {
	made, err := secret.Random(key.SizeBytes)
	if err != nil {
		return nil, err
	}
	sealed, err := device.Seal(key.TPM, made, label(key))
	if err == nil {
		err = s.System.PutSealed(key.Name, &luks.Token{
			Type: luks.TokenType, Keyslots: []string{"0"},
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
