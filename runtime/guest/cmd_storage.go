package main

import (
	"context"
	"log/slog"

	"tdxvm/guest/internal/config"
	"tdxvm/guest/internal/disk"
	"tdxvm/guest/internal/fault"
	"tdxvm/guest/internal/keys"
	"tdxvm/guest/internal/logging"
	"tdxvm/guest/internal/secret"
	"tdxvm/guest/internal/tpm"
)

func runKey(ctx context.Context, conf *config.Config, log *slog.Logger) error {
	if err := secret.Harden(); err != nil {
		return err
	}
	source := &keys.Source{Log: log, Disks: disk.NewSystem(log), OpenTPM: tpm.Open}
	return source.Run(ctx, conf)
}

func runDisk(ctx context.Context, conf *config.Config, log *slog.Logger) error {
	if err := secret.Harden(); err != nil {
		return err
	}
	return disk.NewSystem(log).Run(ctx, conf)
}

// runInit does at once what the boot steps of an image do one after the other: keys, and then the disks that they open. Secrets
// and quotes are services, which the service manager starts.
func runInit(ctx context.Context, conf *config.Config, log *slog.Logger) error {
	if len(conf.Keys)+len(conf.Disks) == 0 {
		return fault.Refuse("leave `tdx-guest init` out, or give the recipe a KeyGeneration and a DiskEncryption",
			"the configuration has neither keys nor disks, so there is nothing to do")
	}
	if err := runKey(ctx, conf, logging.For(log, "key")); err != nil {
		return err
	}
	return runDisk(ctx, conf, logging.For(log, "disk"))
}
