package web

import (
	"net/http"
	"strings"

	"lablink/internal/fleet"
	"lablink/internal/httpx"
)

// registerView is the form that registers machines.
type registerView struct {
	frame
	Names string
	Error string
	Most  int // machines at once
}

// tokensView shows fresh tokens. It is the only page that ever does, once.
type tokensView struct {
	frame
	Machines []machineView
	All      string // every command, for the clipboard
	More     bool   // a further token for a machine that has one
	Only     bool   // which is the only valid one now
}

type machineView struct {
	Hostname, Command string
}

func (w *Web) getRegister(rw http.ResponseWriter, _ *http.Request) error {
	return w.registerPage(rw, http.StatusOK, "", "")
}

func (w *Web) registerPage(rw http.ResponseWriter, status int, names, problem string) error {
	return w.page(rw, status, "admin_register", registerView{w.adminFrame("Register machines", "register"), names, problem, fleet.MaxRegisterBatch})
}

func (w *Web) postRegister(rw http.ResponseWriter, r *http.Request) error {
	if err := httpx.ReadForm(r); err != nil {
		return err
	}
	text := r.PostFormValue("hostnames")
	names := splitHostnames(text)
	err := fleet.ValidateHostnames(names)
	if err == nil {
		tokens, hashes := newTokens(len(names))
		if err = w.store.RegisterVMs(r.Context(), httpx.ActorOf(r, "admin"), names, hashes, w.cfg.Limits.MaxRegistered); err == nil {
			return w.tokensPage(rw, r, names, tokens, tokensView{})
		}
	}
	e := asFleetError(err)
	if e == nil || e.Kind != fleet.Invalid && e.Kind != fleet.Conflict {
		return err
	}
	return w.registerPage(rw, httpx.Status(e.Kind), text, capitalized(e.Message)+".")
}

// splitHostnames reads names that stand on lines of their own or between commas.
func splitHostnames(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(", ;\t\r\n", r) })
}

func newTokens(n int) (tokens []string, hashes [][]byte) {
	for range n {
		token := fleet.NewToken()
		tokens, hashes = append(tokens, token), append(hashes, fleet.HashToken(token))
	}
	return tokens, hashes
}

func (w *Web) tokensPage(rw http.ResponseWriter, r *http.Request, names, tokens []string, view tokensView) error {
	view.frame = w.adminFrame("Start the agents", "register")
	commands := make([]string, len(names))
	for i, name := range names {
		commands[i] = agentCommand(w.origin(r), name, tokens[i])
		view.Machines = append(view.Machines, machineView{name, commands[i]})
	}
	view.All = strings.Join(commands, "\n\n")
	return w.page(rw, http.StatusOK, "admin_tokens", view)
}

// postToken gives a machine a further token, for one whose token was lost, or
// one in place of all others, where somebody else may have it.
func (w *Web) postToken(rw http.ResponseWriter, r *http.Request) error {
	hostname := r.PathValue("hostname")
	if err := httpx.ReadForm(r); err != nil {
		return err
	}
	give, only := w.store.AddToken, r.PostFormValue("replace") != ""
	if only {
		give = w.store.ReplaceTokens
	}
	tokens, hashes := newTokens(1)
	if err := give(r.Context(), httpx.ActorOf(r, "admin"), hostname, hashes[0]); err != nil {
		return err
	}
	return w.tokensPage(rw, r, []string{hostname}, tokens, tokensView{More: true, Only: only})
}

// agentCommand is what an admin pastes into a root shell of the machine. The
// token goes into a file that only root can read, by the shell's own printf: it
// is never an argument of a program, which others could see in the process
// list. The space in front keeps it out of the history of most shells. The
// desktop's user is not guessed: in a root shell without sudo it would be root.
func agentCommand(origin, hostname, token string) string {
	return " mkdir -p /etc/lablink && install -m 600 /dev/null /etc/lablink/agent-token &&\n" +
		" printf '%s\\n' " + shellQuoted(token) + " > /etc/lablink/agent-token &&\n" +
		" lablink agent --allocator " + shellQuoted(origin) + " --hostname " + shellQuoted(hostname) + " --token-file /etc/lablink/agent-token" +
		" --user \"${SUDO_USER:?put the desktop user here}\""
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
