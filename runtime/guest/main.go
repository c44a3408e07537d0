// Command tdx-guest is the one program of ours inside the machine: it makes or recovers keys, opens disks,
// takes secrets and issues quotes, as /etc/tdx-guest/config.json says.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"tdxvm/guest/internal/config"
	"tdxvm/guest/internal/fault"
	"tdxvm/guest/internal/logging"
)

// Exit statuses.
const (
	exitDone    = 0
	exitRefused = 1
	exitUsage   = 2
)

// runner does the work of a subcommand, with the configuration that the options name, checked.
type runner func(ctx context.Context, conf *config.Config, log *slog.Logger) error

// command is one subcommand, of one word or two. It has run, or, where it has options of its own, define.
type command struct {
	name, summary string
	run           runner
	define        func(options *flag.FlagSet) runner
}

// commands is what there is, in the order of the usage text.
func commands() []command {
	return []command{
		{"check", "read the configuration and say whether it is right", runCheck, nil},
		{"init", "make or get back all keys, and then open all disks: key and disk in one", runInit, nil},
		{"key", "make keys, or get them back", runKey, nil},
		{"disk", "open, check and mount encrypted disks", runDisk, nil},
		{"secrets", "take the secrets that the machine waits for", runSecrets, nil},
		{"quote serve", "hand out quotes on the socket of the service manager", runQuoteServe, nil},
		{"quote once", "print one quote", nil, quoteOnce},
		{"quote validate", "check the quote on standard input", nil, quoteValidate},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	status := run(ctx, os.Args[1:])
	stop()
	os.Exit(status)
}

func run(ctx context.Context, args []string) int {
	if len(args) == 0 {
		usage()
		return exitUsage
	}
	for _, each := range commands() {
		words := strings.Fields(each.name)
		if len(args) >= len(words) && slices.Equal(args[:len(words)], words) {
			return execute(ctx, each, args[len(words):])
		}
	}
	usage()
	return exitUsage
}

func execute(ctx context.Context, chosen command, args []string) int {
	options := flag.NewFlagSet("tdx-guest "+chosen.name, flag.ContinueOnError)
	path := options.String("config", config.Path, "the configuration `file`")
	work := chosen.run
	if chosen.define != nil {
		work = chosen.define(options)
	}
	if err := options.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return exitDone
		}
		return exitUsage
	}
	if options.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "tdx-guest %s takes no arguments, and got %q\n", chosen.name, options.Arg(0))
		return exitUsage
	}
	log := logging.For(logging.New(os.Stderr, os.Getenv("JOURNAL_STREAM") != ""), strings.Fields(chosen.name)[0])
	conf, err := config.Load(*path)
	if err == nil {
		err = work(ctx, conf, log)
	}
	if err != nil {
		report(log, err)
		return exitRefused
	}
	return exitDone
}

// report says what was refused and what to do, each on its own line, so that both are readable on a console.
func report(log *slog.Logger, err error) {
	log.Error("REFUSED: " + err.Error())
	if fix := fault.Fix(err); fix != "" {
		log.Error("what to do: " + fix)
	}
}

func usage() {
	fmt.Fprintf(os.Stderr, "usage: tdx-guest COMMAND [-config FILE]\n\n")
	for _, each := range commands() {
		fmt.Fprintf(os.Stderr, "  %-14s %s\n", each.name, each.summary)
	}
}

func runCheck(_ context.Context, conf *config.Config, log *slog.Logger) error {
	log.Info("the configuration is right", "keys", len(conf.Keys), "disks", len(conf.Disks))
	return nil
}
