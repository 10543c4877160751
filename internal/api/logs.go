package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/httpx"
	"lablink/internal/logtext"
	"lablink/internal/store"
	"lablink/internal/wire"
)

// Logs is what the endpoints of logs need.
type Logs struct {
	ProcessorToken string         // "" lets no log processor post
	KeepUnknown    time.Duration  // what is sent of a VM that is not known; 0 keeps nothing
	Public         bool           // anybody may read
	VMLimit        *httpx.Limiter // of posts, by VM
	SenderLimit    *httpx.Limiter // of posts of senders that speak for any VM: the processor, or an address
	Secrets        []string       // of the server, never to be in a log
	Count          func(outcome string, lines int)
}

// What becomes of lines, for Logs.Count.
const (
	LogStored    = "stored"
	LogDuplicate = "duplicate"
	LogAside     = "aside"   // kept for a VM that is not known
	LogRefused   = "refused" // of a VM that is not known, and there is no room
)

// storeTimeout bounds each step of taking a batch.
const storeTimeout = 15 * time.Second

// logSender is who posts a batch: one VM, or somebody who may speak for any.
type logSender struct {
	any   bool
	vm    store.LogTarget // unless any
	token string          // that it has shown
}

// postLogs takes what VMs print. Whoever posts shows who it is before the body
// is read, which may be larger than that of a stranger.
func (a *API) postLogs(w http.ResponseWriter, r *http.Request) error {
	httpx.Quiet(r)
	sender, err := a.identifyLogSender(r)
	if err != nil {
		return err
	}
	httpx.AllowBody(r, wire.MaxLogBytes)
	if err := httpx.Decompress(r, wire.MaxLogBytes); err != nil {
		return err
	}
	var body logBody
	if err := httpx.ReadJSON(r, &body); err != nil {
		return err
	}
	batch, err := body.batch()
	if err != nil {
		return err
	}
	if !sender.any && batch.Hostname != sender.vm.Hostname {
		return fleet.Errorf(fleet.Forbidden, "this token belongs to another VM than the one named")
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	select {
	case a.storing <- struct{}{}:
		defer func() { <-a.storing }()
	case <-ctx.Done():
		return &fleet.Error{Kind: fleet.Unavailable, RetryAfter: time.Second, Message: "too many logs arrive at once: send this batch again", Err: ctx.Err()}
	}
	target := sender.vm
	if sender.any {
		target, err = a.Store.LogTarget(ctx, batch.Hostname, a.Logs.KeepUnknown)
		if fleet.KindOf(err) == fleet.NotFound {
			return a.putAside(ctx, w, sender, batch, err)
		}
		if err != nil {
			return err
		}
	}
	if target.Waiting { // what came earlier comes first
		if err := a.adopt(ctx, target); err != nil {
			return err
		}
	}
	lines, err := a.logLines(ctx, batch, target, sender.token)
	if err != nil {
		return err
	}
	stored, err := a.Store.AddLogs(ctx, target.ID, lines)
	if err != nil {
		return err
	}
	a.countLogs(lines, stored)
	return httpx.WriteJSON(w, http.StatusOK, wire.Message{Message: "stored"})
}

func (a *API) countLogs(lines store.NewLogLines, stored int) {
	a.Logs.Count(LogStored, stored)
	a.Logs.Count(LogDuplicate, len(lines.Lines)-stored)
}

func (a *API) identifyLogSender(r *http.Request) (logSender, error) {
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	token, given := bearer(r)
	var s logSender
	limit, key := a.Logs.SenderLimit, "processor"
	switch {
	case !given && a.OpenMachines:
		s.any, key = true, httpx.ClientAddr(r)
	case !given:
		return s, fleet.Errorf(fleet.Unauthenticated, "send the token of the VM or of the log processor: Authorization: Bearer TOKEN")
	case a.isProcessor(token):
		s.any, s.token = true, token
	default:
		vm, err := a.Store.LogTargetByToken(ctx, fleet.HashToken(token))
		if err != nil {
			return s, err
		}
		s.vm, s.token = vm, token
		limit, key = a.Logs.VMLimit, vm.Hostname
	}
	if retry, ok := limit.Allow(key); !ok {
		return s, &fleet.Error{Kind: fleet.Limited, RetryAfter: retry, Message: "logs are posted too often: send more lines at once, or back off"}
	}
	return s, nil
}

// isProcessor compares hashes, so that neither time nor length tells anything.
func (a *API) isProcessor(token string) bool {
	given, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(a.Logs.ProcessorToken))
	return subtle.ConstantTimeCompare(given[:], want[:]) == 1 && a.Logs.ProcessorToken != ""
}

// putAside keeps a batch for a VM that is not known (yet). The answer is the
// error in any case, so that the sender knows; it may send the batch again.
func (a *API) putAside(ctx context.Context, w http.ResponseWriter, sender logSender, batch logBatch, unknown error) error {
	if a.Logs.KeepUnknown <= 0 {
		a.Logs.Count(LogRefused, len(batch.Events))
		return unknown
	}
	hash := batch.hash(func(wire.LogEvent) bool { return true })
	// What is a secret in any log is not kept. What is one in this VM's goes when there is a VM.
	secrets := logtext.NewMasker(append([]string{sender.token}, a.Logs.Secrets...)...)
	for i := range batch.Events {
		batch.Events[i].Message = logtext.Clean(batch.Events[i].Message, secrets)
	}
	body, err := json.Marshal(batch)
	if err != nil {
		return err
	}
	kept, err := a.Store.KeepLogs(ctx, batch.Hostname, hash, body)
	if err != nil {
		return err
	}
	if !kept {
		a.Logs.Count(LogRefused, len(batch.Events))
		return unknown
	}
	a.Logs.Count(LogAside, len(batch.Events))
	// It may have appeared meanwhile, and whoever looked for its batches before found none.
	target, err := a.Store.LogTarget(ctx, batch.Hostname, 0)
	if err != nil {
		return err
	}
	if err := a.adopt(ctx, target); err != nil {
		return err
	}
	return httpx.WriteJSON(w, http.StatusOK, wire.Message{Message: "stored"})
}

// AdoptLogs stores the batches that were kept aside for VMs that have appeared.
func (a *API) AdoptLogs(ctx context.Context) error {
	targets, err := a.Store.LogsAwaited(ctx)
	if err != nil {
		return err
	}
	for _, t := range targets {
		if err := a.adopt(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

func (a *API) adopt(ctx context.Context, target store.LogTarget) error {
	for {
		kept, err := a.Store.KeptLogs(ctx, target.Hostname)
		if err != nil || len(kept) == 0 {
			return err
		}
		for _, k := range kept {
			var batch logBatch
			if err := json.Unmarshal(k.Body, &batch); err != nil {
				return err
			}
			lines, err := a.logLines(ctx, batch, target)
			if fleet.KindOf(err) == fleet.TooLarge { // its sender was told only that there is no such VM
				a.Logs.Count(LogRefused, len(batch.Events))
			} else if err != nil {
				return err
			}
			stored, err := a.Store.AdoptLogs(ctx, target.ID, k.ID, lines)
			if err != nil {
				return err
			}
			a.countLogs(lines, stored)
		}
	}
}

// logLines makes lines of a batch, without the secrets of its VM and of the
// server, and without any VM's token.
func (a *API) logLines(ctx context.Context, batch logBatch, target store.LogTarget, more ...string) (store.NewLogLines, error) {
	tokens, err := a.tokensIn(ctx, batch)
	if err != nil {
		return store.NewLogLines{}, err
	}
	secrets := logtext.NewMasker(slices.Concat(target.Secrets, a.Logs.Secrets, tokens, more)...)
	return batch.lines(target.ID, secrets)
}

// tokensIn returns the words of a batch that are tokens of VMs.
func (a *API) tokensIn(ctx context.Context, batch logBatch) ([]string, error) {
	words := map[string]bool{}
	for i := range batch.Events {
		logtext.Tokens(words, batch.Events[i].Message)
	}
	if len(words) == 0 {
		return nil, nil
	}
	byHash := make(map[string]string, len(words))
	hashes := make([][]byte, 0, len(words))
	for w := range words {
		h := fleet.HashToken(w)
		byHash[string(h)] = w
		hashes = append(hashes, h)
	}
	known, err := a.Store.KnownTokens(ctx, hashes)
	tokens := make([]string, len(known))
	for i, h := range known {
		tokens[i] = byHash[string(h)]
	}
	return tokens, err
}
