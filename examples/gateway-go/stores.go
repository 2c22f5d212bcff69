package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// etcd and Redis without a client of their own, so that the example has no dependency but gRPC. A real gateway takes
// go.etcd.io/etcd/client/v3 (or its framework's registry) and a Redis client.

const patience = 3 * time.Second

// registration is what a gateway says of itself in etcd, under a lease, by etcd's JSON gateway.
type registration struct {
	etcd, key, value string
	lease            string
}

// renew keeps the lease alive; without one, or when it is gone, it registers anew.
func (r *registration) renew() error {
	if r.lease != "" {
		var kept struct {
			Result struct{ TTL string }
		}
		err := r.call("/v3/lease/keepalive", map[string]any{"ID": r.lease}, &kept)
		if err != nil || kept.Result.TTL != "" && kept.Result.TTL != "0" {
			return err
		}
	}
	var granted struct{ ID string }
	if err := r.call("/v3/lease/grant", map[string]any{"TTL": int(lasts.Seconds())}, &granted); err != nil {
		return err
	}
	r.lease = granted.ID
	put := map[string]any{"key": []byte(r.key), "value": []byte(r.value), "lease": r.lease}
	return r.call("/v3/kv/put", put, nil)
}

func (r *registration) remove() error {
	return r.call("/v3/kv/deleterange", map[string]any{"key": []byte(r.key)}, nil)
}

func (r *registration) call(path string, request any, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	client := http.Client{Timeout: patience}
	response, err := client.Post("http://"+r.etcd+path, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, response.Status)
	}
	if answer == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(answer)
}

// sayRoutes writes where users are. With several devices a user the scripts of contrib/redis do it without races.
func sayRoutes(redis, gateway string, users []string) error {
	conn, err := net.DialTimeout("tcp", redis, patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	route, err := json.Marshal(map[string]string{"gateway_id": gateway})
	if err != nil {
		return err
	}
	answers := bufio.NewReader(conn)
	for _, user := range users {
		words := []string{"SET", "resonance:router:user:" + user, string(route), "EX", fmt.Sprint(int(lasts.Seconds()))}
		if _, err := conn.Write([]byte(command(words))); err != nil {
			return err
		}
		answer, err := answers.ReadString('\n')
		if err != nil {
			return err
		}
		if !strings.HasPrefix(answer, "+") {
			return fmt.Errorf("SET: %s", strings.TrimSpace(answer))
		}
	}
	return nil
}

// command is a command of Redis as bytes.
func command(words []string) string {
	var text strings.Builder
	fmt.Fprintf(&text, "*%d\r\n", len(words))
	for _, word := range words {
		fmt.Fprintf(&text, "$%d\r\n%s\r\n", len(word), word)
	}
	return text.String()
}
