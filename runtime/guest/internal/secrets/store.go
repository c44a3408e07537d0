package secrets

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"sync"

	"tdxvm/guest/internal/config"
	"tdxvm/guest/internal/fault"
)

// maxStateBytes bounds what is read back: all secrets at their longest, in base64.
const maxStateBytes = 64 << 20

// errSpent says that the one-time token has been used, by another post at the same time perhaps.
var errSpent = errors.New("the one-time token has been used")

// errBroken says that the files of services and the state no longer agree.
var errBroken = errors.New("the files of the services could not be put in place")

// store holds the secrets that have come. The file state.json is the one point of commitment: a secret has been
// accepted when that file has its new content, for all secrets of a post at once. The files of the services
// follow from it, and are made anew from it when the program starts again.
type store struct {
	rules     []rule
	directory string
	files     map[string][]place // of each secret

	lock  sync.Mutex
	state state
}

// state is the content of state.json.
type state struct {
	Version int `json:"version"`
	// TokenSpent says that a post with the one-time token has been accepted.
	TokenSpent bool     `json:"token_spent"`
	Secrets    []stored `json:"secrets"`
}

type stored struct {
	Name  string `json:"name"`
	Value []byte `json:"value"` // base64 in JSON
}

// outcome is what became of one post.
type outcome struct {
	accepted []string
	faults   []Fault
}

// openStore readies the folders and reads back what came earlier in this boot.
func openStore(secrets []config.Secret, directory string) (*store, error) {
	rules, err := compile(secrets)
	if err != nil {
		return nil, err
	}
	opened := &store{rules: rules, directory: directory, files: map[string][]place{}, state: state{Version: 1}}
	if err := opened.resolvePlaces(); err != nil {
		return nil, err
	}
	if err := opened.readState(); err != nil {
		return nil, err
	}
	return opened, opened.restore()
}

// resolvePlaces finds owners and makes folders, so that what cannot work is said before anybody sends a secret.
func (s *store) resolvePlaces() error {
	folders := []string{s.directory, path.Join(s.directory, "env")}
	for index := range s.rules {
		secret := &s.rules[index]
		for _, target := range secret.Targets {
			if target.Type != config.TargetFile {
				continue
			}
			uid, err := userID(target.Owner)
			if err != nil {
				return err
			}
			gid, err := groupID(target.Group)
			if err != nil {
				return err
			}
			s.files[secret.Name] = append(s.files[secret.Name],
				place{path: target.Path, mode: target.FileMode(), uid: uid, gid: gid})
			folders = append(folders, path.Dir(target.Path))
		}
	}
	for _, name := range folders {
		folder, err := openFolder(name)
		if err != nil {
			return err
		}
		err = discardLeftovers(folder)
		folder.Close()
		if err != nil {
			return err
		}
	}
	return os.Chmod(s.directory, 0o700)
}

func (s *store) statePath() string { return path.Join(s.directory, "state.json") }

func (s *store) readState() error {
	const fix = "restart the machine: secrets do not outlive it"
	about, err := os.Stat(s.statePath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || about.Size() > maxStateBytes {
		return fault.Wrap(err, fix, "cannot read back the secrets")
	}
	data, err := os.ReadFile(s.statePath())
	if err != nil {
		return fault.Wrap(err, fix, "cannot read back the secrets")
	}
	var read state
	if json.Unmarshal(data, &read) != nil || read.Version != 1 {
		return fault.Refuse(fix, "%s is not what this program wrote", s.statePath())
	}
	s.state = read
	return nil
}

// accept takes all entries of a post, or none. With oneTime, the post spends the token, and so must leave no
// required secret missing; where it is spent already, accept returns [errSpent].
func (s *store) accept(entries []entry, oneTime bool) (outcome, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if oneTime && s.state.TokenSpent {
		return outcome{}, errSpent
	}
	next := state{Version: 1, TokenSpent: s.state.TokenSpent || oneTime, Secrets: slices.Clone(s.state.Secrets)}
	var result outcome
	for position, sent := range entries {
		value, faults := s.judge(sent, position+1)
		result.faults = append(result.faults, faults...)
		if len(faults) == 0 {
			next.Secrets = append(next.Secrets, stored{Name: sent.name, Value: value})
			result.accepted = append(result.accepted, sent.name)
		}
	}
	if oneTime {
		sent := func(name string) bool {
			return slices.ContainsFunc(entries, func(each entry) bool { return each.name == name })
		}
		for _, name := range s.missingFrom(s.state) {
			if !sent(name) {
				result.faults = append(result.faults, Fault{Secret: name, Rule: "required",
					Message: "is missing, and the token allows one post only"})
			}
		}
	}
	if len(result.faults) > 0 {
		result.accepted = nil
		return result, nil
	}
	return result, s.put(next, result.accepted)
}

// judge holds one entry against its schema, and against what is there already.
func (s *store) judge(sent entry, position int) (Value, []Fault) {
	for index := range s.rules {
		secret := &s.rules[index]
		if secret.Name != sent.name {
			continue
		}
		if s.state.has(sent.name) {
			return nil, []Fault{secret.fault("already", "has come already, and the first one stays")}
		}
		return secret.fromJSON(sent.raw)
	}
	return nil, []Fault{{Position: position, Rule: "unknown",
		Message: fmt.Sprintf("name number %d is not in the list: %s", position, s.names())}}
}

// put makes next the state, on disk and then here. It stages every file first, so that a full tmpfs is found
// before anything has changed.
func (s *store) put(next state, accepted []string) error {
	files, err := s.stageFiles(next, accepted)
	if err != nil {
		return err
	}
	if err := s.commitState(next); err != nil {
		for _, file := range files {
			file.discard()
		}
		return err
	}
	s.state = next
	return commitAll(files)
}

// restore puts the files of services in place again, after a stop between the state and them.
func (s *store) restore() error {
	var names []string
	for _, each := range s.state.Secrets {
		names = append(names, each.Name)
	}
	files, err := s.stageFiles(s.state, names)
	if err != nil {
		return err
	}
	return commitAll(files)
}

func commitAll(files []*staged) error {
	var broken error
	for _, file := range files {
		broken = errors.Join(broken, file.commit())
	}
	if broken != nil {
		return fault.Wrap(errors.Join(errBroken, broken), "look at the file systems of the machine", "the secrets have come, but services cannot have them")
	}
	return nil
}

func (s *store) commitState(next state) error {
	data, err := json.Marshal(next)
	if err != nil {
		return err
	}
	file, err := stage(place{path: s.statePath(), mode: 0o600, uid: os.Geteuid(), gid: os.Getegid()}, data)
	if err != nil {
		return err
	}
	return file.commit()
}

// stageFiles writes what services read: the files of the named secrets, and the environment files, which are
// there whether or not they have a variable, so that units can insist on them.
func (s *store) stageFiles(next state, names []string) ([]*staged, error) {
	var files []*staged
	add := func(to place, data []byte) error {
		file, err := stage(to, data)
		if err == nil {
			files = append(files, file)
		}
		return err
	}
	var err error
	for _, name := range names {
		value := next.Secrets[next.index(name)].Value
		for _, to := range s.files[name] {
			err = errors.Join(err, add(to, value))
		}
	}
	for name, content := range s.environment(next) {
		to := place{path: path.Join(s.directory, "env", name), mode: 0o600, uid: os.Geteuid(), gid: os.Getegid()}
		err = errors.Join(err, add(to, []byte(content)))
	}
	if err != nil {
		for _, file := range files {
			file.discard()
		}
		return nil, err
	}
	return files, nil
}

// environment renders the environment files, by name.
func (s *store) environment(from state) map[string]string {
	files := map[string]string{"global.env": ""}
	for index := range s.rules {
		for _, target := range s.rules[index].Targets {
			if target.Type != config.TargetEnv {
				continue
			}
			line := ""
			if at := from.index(s.rules[index].Name); at >= 0 {
				line = environmentLine(target.Variable, string(from.Secrets[at].Value))
			}
			files[target.EnvironmentFile()] += line
		}
	}
	return files
}

func (s state) index(name string) int {
	return slices.IndexFunc(s.Secrets, func(each stored) bool { return each.Name == name })
}

func (s state) has(name string) bool { return s.index(name) >= 0 }

// missingFrom lists what is still waited for: required secrets, or all where none is required.
func (s *store) missingFrom(from state) []string {
	required := slices.ContainsFunc(s.rules, func(each rule) bool { return each.Required })
	var missing []string
	for _, each := range s.rules {
		if each.Required == required && !from.has(each.Name) {
			missing = append(missing, each.Name)
		}
	}
	return missing
}

// missing lists what the program waits for.
func (s *store) missing() []string {
	s.lock.Lock()
	defer s.lock.Unlock()
	return s.missingFrom(s.state)
}

// ready says whether services may start: nothing that is required is missing.
func (s *store) ready() bool {
	s.lock.Lock()
	defer s.lock.Unlock()
	return !slices.ContainsFunc(s.rules, func(each rule) bool { return each.Required && !s.state.has(each.Name) })
}

func (s *store) received(name string) bool {
	s.lock.Lock()
	defer s.lock.Unlock()
	return s.state.has(name)
}

func (s *store) tokenSpent() bool {
	s.lock.Lock()
	defer s.lock.Unlock()
	return s.state.TokenSpent
}

func (s *store) names() string {
	list := ""
	for index, each := range s.rules {
		if index > 0 {
			list += ", "
		}
		list += each.Name
	}
	return list
}
