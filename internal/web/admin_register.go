package web

import (
	"net/http"
	"strings"

	"lablink/internal/fleet"
	"lablink/internal/httpx"
)

// maxRegister is how many machines one form may hold.
const maxRegister = 1000

// registerView is the form that registers machines.
type registerView struct {
	frame
	Names string
	Error string
}

// tokensView shows fresh tokens. It is the only page that ever does, once.
type tokensView struct {
	frame
	Machines []machineView
	All      string // every command, for the clipboard
	More     bool   // a further token for a machine that has one
}

type machineView struct {
	Hostname, Command string
}

func (w *Web) getRegister(rw http.ResponseWriter, _ *http.Request) error {
	return w.registerPage(rw, http.StatusOK, "", "")
}

func (w *Web) registerPage(rw http.ResponseWriter, status int, names, problem string) error {
	return w.page(rw, status, "admin_register", registerView{w.adminFrame("Register machines", "register"), names, problem})
}

func (w *Web) postRegister(rw http.ResponseWriter, r *http.Request) error {
	if err := httpx.ReadForm(r); err != nil {
		return err
	}
	text := r.PostFormValue("hostnames")
	names, err := parseHostnames(text)
	if err == nil {
		tokens, hashes := newTokens(len(names))
		if err = w.store.RegisterVMs(r.Context(), httpx.ActorOf(r, "admin"), names, hashes, w.cfg.Limits.MaxRegistered); err == nil {
			return w.tokensPage(rw, r, names, tokens, false)
		}
	}
	e := asFleetError(err)
	if e == nil || e.Kind != fleet.Invalid && e.Kind != fleet.Conflict {
		return err
	}
	return w.registerPage(rw, httpx.Status(e.Kind), text, capitalized(e.Message)+".")
}

// parseHostnames reads names that stand on lines of their own or between commas.
func parseHostnames(text string) ([]string, error) {
	names := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(", ;\t\r\n", r) })
	if len(names) == 0 {
		return nil, fleet.FieldErrorf("hostnames", "Type at least one host name")
	}
	if len(names) > maxRegister {
		return nil, fleet.FieldErrorf("hostnames", "These are %d machines, at most %d can be registered at once", len(names), maxRegister)
	}
	seen := make(map[string]bool, len(names))
	for _, name := range names {
		if err := fleet.ValidateHostname(name); err != nil {
			return nil, err
		}
		if seen[name] {
			return nil, fleet.FieldErrorf("hostnames", "%s is there twice", name)
		}
		seen[name] = true
	}
	return names, nil
}

func newTokens(n int) (tokens []string, hashes [][]byte) {
	for range n {
		token := fleet.NewToken()
		tokens, hashes = append(tokens, token), append(hashes, fleet.HashToken(token))
	}
	return tokens, hashes
}

func (w *Web) tokensPage(rw http.ResponseWriter, r *http.Request, names, tokens []string, more bool) error {
	view := tokensView{frame: w.adminFrame("Start the agents", "register"), More: more}
	commands := make([]string, len(names))
	for i, name := range names {
		commands[i] = agentCommand(w.origin(r), name, tokens[i])
		view.Machines = append(view.Machines, machineView{name, commands[i]})
	}
	view.All = strings.Join(commands, "\n\n")
	return w.page(rw, http.StatusOK, "admin_tokens", view)
}

// postToken gives a machine a further token, for one whose token was lost.
func (w *Web) postToken(rw http.ResponseWriter, r *http.Request) error {
	hostname := r.PathValue("hostname")
	tokens, hashes := newTokens(1)
	if err := w.store.AddToken(r.Context(), httpx.ActorOf(r, "admin"), hostname, hashes[0]); err != nil {
		return err
	}
	return w.tokensPage(rw, r, []string{hostname}, tokens, true)
}

// agentCommand is what an admin pastes into a root shell of the machine. The
// token goes into a file that only root can read, by the shell's own printf: it
// is never an argument of a program, which others could see in the process
// list. The space in front keeps it out of the history of most shells.
func agentCommand(origin, hostname, token string) string {
	return " install -d -m 700 /etc/lablink && install -m 600 /dev/null /etc/lablink/agent-token &&\n" +
		" printf '%s\\n' " + shellQuoted(token) + " > /etc/lablink/agent-token &&\n" +
		" lablink agent --allocator " + shellQuoted(origin) + " --hostname " + shellQuoted(hostname) + " --token-file /etc/lablink/agent-token --user \"${SUDO_USER:-$(id -un)}\""
}

func shellQuoted(s string) string {
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_./:", r)
	}
	if s != "" && strings.Trim(s, "-") == s && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
