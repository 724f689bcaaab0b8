//! The macro that makes a set of kernel flags a type.

/// Defines a set of flags over `$repr`: constants, `|`, `|=`, `contains`, and its number.
macro_rules! flags {
    (
        $(#[$meta:meta])*
        pub struct $name:ident: $repr:ty {
            $($(#[$flag_meta:meta])* $flag:ident = $value:expr,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name($repr);

        impl $name {
            $($(#[$flag_meta])* pub const $flag: $name = $name($value);)*

            /// No flag.
            pub const fn empty() -> $name {
                $name(0)
            }

            /// The flags of this number, known to this table or not.
            pub const fn from_bits(bits: $repr) -> $name {
                $name(bits)
            }

            /// The number.
            pub const fn bits(self) -> $repr {
                self.0
            }

            /// The flags of both; usable in constants, where `|` is not.
            pub const fn union(self, other: $name) -> $name {
                $name(self.0 | other.0)
            }

            /// The flags of this set that are not in the other.
            pub const fn difference(self, other: $name) -> $name {
                $name(self.0 & !other.0)
            }

            /// Whether every flag of `other` is set here.
            pub const fn contains(self, other: $name) -> bool {
                self.0 & other.0 == other.0
            }
        }

        impl std::ops::BitOr for $name {
            type Output = $name;

            fn bitor(self, other: $name) -> $name {
                self.union(other)
            }
        }

        impl std::ops::BitOrAssign for $name {
            fn bitor_assign(&mut self, other: $name) {
                self.0 |= other.0;
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let mut rest = self.0;
                let mut first = true;
                $(
                    // Flags of value zero (O_RDONLY) name nothing; the larger of two overlapping
                    // flags stands first in its table.
                    if $value != 0 && rest & $value == $value {
                        f.write_str(if first { "" } else { "|" })?;
                        f.write_str(stringify!($flag))?;
                        rest &= !$value;
                        first = false;
                    }
                )*
                match (first, rest) {
                    (true, 0) => f.write_str("0"),
                    (_, 0) => Ok(()),
                    (true, rest) => write!(f, "{rest:#x}"),
                    (false, rest) => write!(f, "|{rest:#x}"),
                }
            }
        }
    };
}

pub(crate) use flags;
