"""The tables, drawn.

    namespaces ─┬─ images            name -> target descriptor, labels
                ├─ containers        id -> record; spec, options and extensions are opaque
                ├─ blobs             digest -> size, labels     (bytes: plugins/content_local)
                ├─ ingests           ref -> backend ref, expected digest, expiry
                ├─ sandboxes         id -> record; spec, options and extensions are opaque
                ├─ snapshots         (snapshotter, key) -> backend key, parent, labels
                └─ leases ── lease_resources   (type, id) held by the lease
    activations                      (namespace, name) -> folder, lease, labels, what is mounted (NULL while it is being
                                     mounted) and what isn't   (mounts: plugins/mount_manager)
    snapshot_nodes                   (snapshotter, key) -> id of its directory, kind, parent, usage
    sequences                        name -> last number given out
    settings                         schema_version, clean (1 only between a clean stop and the next start)

Labels, annotations and extensions are JSON objects. Times are nanoseconds since 1970. Keys sort by their bytes, which
is the order every list is answered in.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = 3

TABLES: Final = {
    "settings": """
        CREATE TABLE settings (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID""",
    "sequences": """
        CREATE TABLE sequences (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID""",
    "namespaces": """
        CREATE TABLE namespaces (name TEXT PRIMARY KEY, labels TEXT NOT NULL DEFAULT '{}') WITHOUT ROWID""",
    "images": """
        CREATE TABLE images (
            namespace TEXT NOT NULL REFERENCES namespaces(name),
            name TEXT NOT NULL,
            media_type TEXT NOT NULL,
            digest TEXT NOT NULL,
            size INTEGER NOT NULL,
            annotations TEXT NOT NULL,
            labels TEXT NOT NULL,
            created INTEGER NOT NULL,
            updated INTEGER NOT NULL,
            PRIMARY KEY (namespace, name)) WITHOUT ROWID""",
    "containers": """
        CREATE TABLE containers (
            namespace TEXT NOT NULL REFERENCES namespaces(name),
            id TEXT NOT NULL,
            image TEXT NOT NULL,
            runtime_name TEXT NOT NULL,
            options_type TEXT, options_value BLOB,
            spec_type TEXT NOT NULL, spec_value BLOB NOT NULL,
            snapshotter TEXT NOT NULL,
            snapshot_key TEXT NOT NULL,
            sandbox TEXT NOT NULL,
            labels TEXT NOT NULL,
            extensions TEXT NOT NULL,
            created INTEGER NOT NULL,
            updated INTEGER NOT NULL,
            PRIMARY KEY (namespace, id))""",
    "blobs": """
        CREATE TABLE blobs (
            namespace TEXT NOT NULL REFERENCES namespaces(name),
            digest TEXT NOT NULL,
            size INTEGER NOT NULL,
            labels TEXT NOT NULL,
            created INTEGER NOT NULL,
            updated INTEGER NOT NULL,
            PRIMARY KEY (namespace, digest)) WITHOUT ROWID""",
    "ingests": """
        CREATE TABLE ingests (
            namespace TEXT NOT NULL REFERENCES namespaces(name),
            ref TEXT NOT NULL,
            backend_ref TEXT NOT NULL UNIQUE,
            expected TEXT NOT NULL,
            expires INTEGER,
            PRIMARY KEY (namespace, ref))""",
    "sandboxes": """
        CREATE TABLE sandboxes (
            namespace TEXT NOT NULL REFERENCES namespaces(name) ON DELETE CASCADE,
            id TEXT NOT NULL,
            runtime_name TEXT NOT NULL,
            options_type TEXT, options_value BLOB,
            spec_type TEXT, spec_value BLOB,
            sandboxer TEXT NOT NULL,
            labels TEXT NOT NULL,
            extensions TEXT NOT NULL,
            created INTEGER NOT NULL,
            updated INTEGER NOT NULL,
            PRIMARY KEY (namespace, id))""",
    "snapshots": """
        CREATE TABLE snapshots (
            namespace TEXT NOT NULL REFERENCES namespaces(name),
            snapshotter TEXT NOT NULL,
            key TEXT NOT NULL,
            backend_key TEXT NOT NULL,
            parent TEXT NOT NULL,
            labels TEXT NOT NULL,
            created INTEGER NOT NULL,
            updated INTEGER NOT NULL,
            PRIMARY KEY (namespace, snapshotter, key)) WITHOUT ROWID""",
    "snapshots_by_parent": """
        CREATE INDEX snapshots_by_parent ON snapshots (namespace, snapshotter, parent)""",
    "leases": """
        CREATE TABLE leases (
            namespace TEXT NOT NULL REFERENCES namespaces(name) ON DELETE CASCADE,
            id TEXT NOT NULL,
            labels TEXT NOT NULL,
            created INTEGER NOT NULL,
            PRIMARY KEY (namespace, id)) WITHOUT ROWID""",
    "lease_resources": """
        CREATE TABLE lease_resources (
            namespace TEXT NOT NULL,
            lease TEXT NOT NULL,
            type TEXT NOT NULL,
            id TEXT NOT NULL,
            PRIMARY KEY (namespace, lease, type, id),
            FOREIGN KEY (namespace, lease) REFERENCES leases(namespace, id) ON DELETE CASCADE) WITHOUT ROWID""",
    # Of no foreign key: mounts outlive their namespace and their lease until they are collected.
    "activations": """
        CREATE TABLE activations (
            namespace TEXT NOT NULL,
            name TEXT NOT NULL,
            number INTEGER NOT NULL UNIQUE,
            lease TEXT NOT NULL,
            labels TEXT NOT NULL,
            active TEXT,
            system TEXT NOT NULL,
            created INTEGER NOT NULL,
            updated INTEGER NOT NULL,
            PRIMARY KEY (namespace, name)) WITHOUT ROWID""",
    "snapshot_nodes": """
        CREATE TABLE snapshot_nodes (
            snapshotter TEXT NOT NULL,
            key TEXT NOT NULL,
            id INTEGER NOT NULL,
            kind INTEGER NOT NULL,
            parent TEXT NOT NULL,
            inodes INTEGER NOT NULL DEFAULT 0,
            size INTEGER NOT NULL DEFAULT 0,
            labels TEXT NOT NULL,
            created INTEGER NOT NULL,
            updated INTEGER NOT NULL,
            PRIMARY KEY (snapshotter, key)) WITHOUT ROWID""",
    "snapshot_nodes_by_parent": """
        CREATE INDEX snapshot_nodes_by_parent ON snapshot_nodes (snapshotter, parent)""",
}

# What makes a version of the one before it, in words of its own: TABLES go on changing, what version 2 was does not.
MIGRATIONS: Final = {
    2: (
        """
        CREATE TABLE sandboxes (
            namespace TEXT NOT NULL REFERENCES namespaces(name) ON DELETE CASCADE,
            id TEXT NOT NULL,
            runtime_name TEXT NOT NULL,
            options_type TEXT, options_value BLOB,
            spec_type TEXT, spec_value BLOB,
            sandboxer TEXT NOT NULL,
            labels TEXT NOT NULL,
            extensions TEXT NOT NULL,
            created INTEGER NOT NULL,
            updated INTEGER NOT NULL,
            PRIMARY KEY (namespace, id))""",
    ),
    3: (
        """
        CREATE TABLE activations (
            namespace TEXT NOT NULL,
            name TEXT NOT NULL,
            number INTEGER NOT NULL UNIQUE,
            lease TEXT NOT NULL,
            labels TEXT NOT NULL,
            active TEXT,
            system TEXT NOT NULL,
            created INTEGER NOT NULL,
            updated INTEGER NOT NULL,
            PRIMARY KEY (namespace, name)) WITHOUT ROWID""",
    ),
}
