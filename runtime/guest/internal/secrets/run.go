package secrets

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tdxvm/guest/internal/config"
	"tdxvm/guest/internal/fault"
	"tdxvm/guest/internal/quote"
	"tdxvm/guest/internal/sd"
	"tdxvm/guest/internal/smbios"
)

// drainTimeout is how long the last answers may take to leave.
const drainTimeout = 5 * time.Second

// Run takes the secrets of the configuration and returns when nothing is missing. Services that wait for the
// unit start as soon as no required secret is missing.
func Run(ctx context.Context, conf *config.Secrets, issuer quote.Issuer, log *slog.Logger) error {
	// Nobody but root looks into this process, and it leaves no core dump.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot forbid core dumps: %w", err)
	}
	opened, err := openStore(conf.Secrets, config.SecretsDirectory)
	if err != nil {
		return err
	}
	if conf.TimeoutSeconds > 0 {
		limited, cancel := context.WithTimeout(ctx, time.Duration(conf.TimeoutSeconds)*time.Second)
		defer cancel()
		ctx = limited
	}
	if opened.ready() {
		log.Info("no required secret is missing", "method", conf.Method)
		if err := sd.Notify(sd.Ready); err != nil {
			return err
		}
	}
	switch conf.Method {
	case config.MethodHTTP, config.MethodVsock:
		err = serve(ctx, conf, opened, issuer, log)
	case config.MethodFile:
		err = takeFile(ctx, conf, opened, log)
	case config.MethodEnv:
		err = takeCredentials(os.Getenv("CREDENTIALS_DIRECTORY"), smbios.TablesPath, conf.MaxBodyBytes, opened)
	}
	if err != nil {
		return err
	}
	log.Info("all secrets that were waited for are here")
	return sd.Notify(sd.Ready, "STATUS=all secrets are here")
}

// serve runs the server until nothing is missing.
func serve(ctx context.Context, conf *config.Secrets, opened *store, issuer quote.Issuer, log *slog.Logger) error {
	missing := opened.missing()
	if len(missing) == 0 {
		return nil
	}
	key, err := newIdentity(conf)
	if err != nil {
		return err
	}
	plain, err := listen(ctx, conf)
	if err != nil {
		return err
	}
	finished := make(chan error, 1)
	handler := &server{conf: conf, store: opened, identity: key, issuer: issuer, log: log,
		limits: newLimiter(conf.RequestsPerMinute, conf.RequestsPerMinuteTotal, time.Now),
		complete: func(err error) {
			select {
			case finished <- err:
			default: // somebody else was first
			}
		}}
	server := handler.httpServer()
	go func() { handler.complete(server.Serve(handler.listener(plain))) }()
	log.Info("waiting for secrets", "address", plain.Addr(), "tls", conf.TLS, "missing", strings.Join(missing, ","))
	if err := sd.Notify("STATUS=waiting for secrets: " + strings.Join(missing, ", ")); err != nil {
		log.Warn("the service manager does not hear", "why", err)
	}
	select {
	case err = <-finished:
	case <-ctx.Done():
		err = gaveUp(ctx, "these secrets have not come: "+strings.Join(opened.missing(), ", "))
	}
	stop(server)
	return err
}

// stop lets the answers that are under way leave, and ends the rest.
func stop(server *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	if server.Shutdown(ctx) != nil {
		_ = server.Close()
	}
}

func gaveUp(ctx context.Context, what string) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fault.Refuse("send them (tdxc secrets send), and restart the unit or the machine", "the time is up: %s", what)
	}
	return fault.Refuse("", "stopped: %s", what)
}

func listen(ctx context.Context, conf *config.Secrets) (net.Listener, error) {
	if conf.Method == config.MethodVsock {
		return listenVsock(uint32(conf.Port)) // config has seen that it fits
	}
	var options net.ListenConfig
	listener, err := options.Listen(ctx, "tcp", net.JoinHostPort(conf.Address, strconv.FormatInt(conf.Port, 10)))
	if err != nil {
		return nil, fault.Wrap(err, "look what else has the port, and whether the network is up", "cannot listen for secrets")
	}
	return listener, nil
}

// takeFile reads a file, or a block device that is padded with NUL bytes, which holds the body of a post. No
// file system of the host's is mounted for it.
func takeFile(ctx context.Context, conf *config.Secrets, opened *store, log *slog.Logger) error {
	if len(opened.missing()) == 0 {
		return nil
	}
	data, err := awaitSource(ctx, conf.Source, conf.MaxBodyBytes, log)
	if err != nil {
		return err
	}
	defer clear(data)
	entries, err := parseBody(data)
	if err != nil {
		return fault.Refuse("write it as docs/secrets.md has it", "the source of secrets %s %s", conf.Source, err)
	}
	var fresh []entry
	for _, each := range entries { // those of before a restart of this program are here
		if !opened.received(each.name) {
			fresh = append(fresh, each)
		}
	}
	return takeAll(opened, fresh, conf.Source)
}

func awaitSource(ctx context.Context, source string, limit int, log *slog.Logger) ([]byte, error) {
	for first := true; ; first = false {
		data, err := readSource(source, limit)
		if errors.Is(err, fs.ErrPermission) { // the unit may open the devices that were there when it was started
			return nil, fault.Wrap(err, "attach it before the machine starts, or restart tdx-secrets.service", "the source of secrets came too late")
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return data, err
		}
		if first {
			log.Info("waiting for the source of secrets", "source", source)
			if err := sd.Notify("STATUS=waiting for " + source); err != nil {
				log.Warn("the service manager does not hear", "why", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil, gaveUp(ctx, "there is no "+source)
		case <-time.After(sourcePoll):
		}
	}
}

const sourcePoll = 200 * time.Millisecond

// sourcePadding is how far beyond the limit a device is read, to tell padding from more text.
const sourcePadding = 4096

func readSource(source string, limit int) ([]byte, error) {
	// Without blocking, as opening a named pipe would wait for its other end.
	file, err := os.OpenFile(source, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	about, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if mode := about.Mode(); !mode.IsRegular() && mode&fs.ModeType != fs.ModeDevice {
		return nil, fault.Refuse("give a file or a block device", "the source of secrets %s is a %s", source, mode.Type())
	}
	data := make([]byte, limit+sourcePadding)
	length := 0
	for length < len(data) {
		count, err := file.Read(data[length:])
		length += count
		if err != nil || count == 0 {
			break // the end, or what cannot be read, which the parser then misses
		}
	}
	// Padding, and what an earlier and longer text may have left behind it; JSON itself holds no NUL byte.
	if end := bytes.IndexByte(data[:length], 0); end >= 0 {
		length = end
	}
	if length > limit {
		return nil, fault.Refuse("send less, or allow more in the recipe", "the source of secrets %s has more than %d bytes", source, limit)
	}
	return data[:length], nil
}

// takeAll takes the entries of a source that will not change: what is missing or wrong in it stays so.
func takeAll(opened *store, entries []entry, source string) error {
	result, err := opened.accept(entries, false)
	if err != nil {
		return err
	}
	if len(result.faults) > 0 {
		return refuseSource(result.faults, source)
	}
	if !opened.ready() {
		return fault.Refuse("add them there, and start the machine again", "%s lack required secrets: %s", source, strings.Join(opened.missing(), ", "))
	}
	return nil
}

func refuseSource(faults []Fault, source string) error {
	return fault.Refuse("correct them there, and start the machine again", "secrets of %s do not fit the recipe: %s", source, describe(faults))
}
