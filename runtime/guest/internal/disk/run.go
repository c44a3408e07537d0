package disk

import (
	"context"
	"encoding/json"
	"errors"
	"os"

	"tdxvm/guest/internal/config"
	"tdxvm/guest/internal/fault"
	"tdxvm/guest/internal/luks"
	"tdxvm/guest/internal/secret"
	"tdxvm/guest/internal/strictjson"
)

// maxKey is the length of the longest key.
const maxKey = 64

// Run opens and mounts all disks of the configuration, and takes the keys away that nobody needs any more.
func (s *System) Run(ctx context.Context, conf *config.Config) error {
	keys, err := s.Keys()
	if err != nil {
		return err
	}
	for index := range conf.Disks {
		disk := &conf.Disks[index]
		if err := s.bringUp(ctx, conf.Key(disk.Key), disk, keys); err != nil {
			return err
		}
	}
	for index := range conf.Keys {
		key := &conf.Keys[index]
		if !key.Keep && len(conf.DisksOf(key.Name)) > 0 {
			if err := keys.Wipe(key.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *System) bringUp(ctx context.Context, keyConf *config.Key, disk *config.Disk, keys *secret.Store) error {
	if up, err := s.IsUp(disk); err != nil || up {
		return err
	}
	if err := s.unmap(ctx, disk.Name); err != nil {
		return err
	}
	plan, err := s.Inspect(ctx, disk, keyConf)
	if err != nil {
		return err
	}
	key, err := keys.Read(disk.Key, maxKey)
	if err != nil {
		return fault.Wrap(err, "run `tdx-guest key` before `tdx-guest disk`", "there is no key %q", disk.Key)
	}
	defer key.Close()
	if err := s.carryOut(ctx, keyConf, disk, plan, key); err != nil {
		return fault.Wrap(err, "", "disk %q (%s)", disk.Name, plan.Device)
	}
	s.Log.Info("mounted", "disk", disk.Name, "device", plan.Device, "at", disk.MountAt, "cipher", disk.Cipher, "integrity", disk.Integrity)
	return nil
}

// IsUp says whether a disk is open and mounted, as after an earlier run of this boot.
func (s *System) IsUp(disk *config.Disk) (bool, error) {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false, err
	}
	switch source := mounted(string(info), disk.MountAt); source {
	case "":
		return false, nil
	case mapped(disk.Name):
		s.Log.Info("mounted already", "disk", disk.Name, "at", disk.MountAt)
		return true, nil
	default:
		return false, fault.Refuse("mount the disk elsewhere", "disk %q: %s is mounted at %s already", disk.Name, source, disk.MountAt)
	}
}

// carryOut formats where the plan says so, and then opens, checks and mounts as on every boot.
func (s *System) carryOut(ctx context.Context, keyConf *config.Key, disk *config.Disk, plan *Plan, key *secret.Buffer) error {
	sealed := keyConf.Strategy == config.KeyTPM
	if err := makeMountPoint(disk.MountAt); err != nil {
		return err
	}
	if plan.Action == ActionFormat {
		token, err := s.takeSealed(sealed, keyConf.Name)
		if err != nil {
			return err
		}
		return s.formatAndMount(ctx, disk, plan, key, token)
	}
	s.Log.Info("open", "disk", disk.Name, "device", plan.Device, "because", plan.Why)
	if err := s.open(ctx, disk, plan, key, sealed); err != nil {
		return err // whatever the recipe says: a key or a header that does not fit never leads to formatting
	}
	if plan.Action == ActionFinish {
		if err := s.finish(ctx, disk, plan, key, sealed); err != nil {
			return err
		}
	}
	err := s.checkAndMount(ctx, disk, plan)
	if !formatsOver(disk, plan, err) {
		return err
	}
	plan.Why = "the recipe says to format on failure, and the file system is damaged beyond repair: " + err.Error()
	if err := s.unmap(ctx, disk.Name); err != nil {
		return err
	}
	return s.formatAndMount(ctx, disk, plan, key, plan.Header.Token())
}

// finish writes the last entry of the journal, which an earlier boot did not get to. The journal is in front of
// the mapped part, and the device is taken by the mapping, so that is put down for the moment.
func (s *System) finish(ctx context.Context, disk *config.Disk, plan *Plan, key *secret.Buffer, sealed bool) error {
	if err := s.unmap(ctx, disk.Name); err != nil {
		return err
	}
	device, _, err := openExclusive(plan.Device, os.O_RDWR)
	if err != nil {
		return err
	}
	err = writeJournal(device, StageReady, plan.Header.UUID, disk.Name)
	if err = errors.Join(err, device.Close()); err != nil {
		return err
	}
	return s.open(ctx, disk, plan, key, sealed)
}

func (s *System) formatAndMount(ctx context.Context, disk *config.Disk, plan *Plan, key *secret.Buffer, token *luks.Token) error {
	s.Log.Warn("format", "disk", disk.Name, "device", plan.Device, "because", plan.Why)
	if err := s.format(ctx, disk, plan, key, token); err != nil {
		return err
	}
	if err := s.open(ctx, disk, plan, key, token != nil); err != nil {
		return err
	}
	return s.checkAndMount(ctx, disk, plan)
}

// PutSealed leaves a sealed key for the disk that is going to be formatted with it.
func (s *System) PutSealed(name string, token *luks.Token) error {
	store, err := s.Sealed()
	if err != nil {
		return err
	}
	data, err := json.Marshal(token)
	if err != nil {
		return err
	}
	return store.Write(name, data)
}

// takeSealed returns the sealed key that `key` left, or nil where the key is not sealed.
func (s *System) takeSealed(sealed bool, name string) (*luks.Token, error) {
	if !sealed {
		return nil, nil
	}
	store, err := s.Sealed()
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(store.Path(name))
	if err != nil {
		return nil, fault.Wrap(err, "run `tdx-guest key` before `tdx-guest disk`, and start the machine again if the disk was changed in between",
			"the disk is to be formatted, and there is no sealed key for it")
	}
	token := &luks.Token{}
	return token, strictjson.Decode(data, strictjson.Limits{Bytes: 16 << 10, Depth: 4}, token)
}
