//! iPXE scripts, for 1.21.1 and 2.0.0. Pure. No text of a document or of a client gets into a script but through [`shown`]
//! or [`argument`]: iPXE cuts a line into words at blanks, then expands `${setting}` in each word (iPXE, src/core/exec.c),
//! so that a text that can make neither a line nor a setting nor a `&&` can make no command.
//!
//! Each script that can fail ends in [`AGAIN`]: a device that was switched on stays at it until it boots.

use std::net::Ipv4Addr;

use model::{
    boot::Chap,
    desired::{Menu, OnFailure},
    name::{BootId, DeviceName, GroupName, Iqn, Mac},
    wire::Discovered,
};

use super::text::clean;

/// The longest command line that Linux takes on x86 and arm64 (COMMAND_LINE_SIZE), its final zero included.
const COMMAND_LINE_BYTES: usize = 2048;
const SHOWN_CHARACTERS: usize = 120;

/// Why a script can't be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text has a character that iPXE would take for its own.
    #[error(
        "{what} must be printable ASCII without {{, }} and \\, and no word of it may begin with # or be ||, && or ;"
    )]
    Character {
        /// What the text is; it may be a secret, so it is not told.
        what: &'static str,
    },
    /// Linux would cut the command line.
    #[error("the kernel's command line would have {0} bytes; Linux takes {max}", max = COMMAND_LINE_BYTES - 1)]
    CommandLine(usize),
}

/// How long iPXE waits for a script, in milliseconds: what the scripts here say.
pub const SCRIPT_PATIENCE_MS: u128 = 60_000;

/// The way back to the start, with a pause; a server that is away is asked until it is there again.
///
/// A time-out counts from the last byte that came: without it a transfer that the server's end cut off would hang for ever.
const AGAIN: &str = "\
:again
sleep 5
chain --replace --autofree --timeout 15000 /boot.ipxe || goto again
";

/// `/boot.ipxe`: asks for the machine's own script.
///
/// `netX` is the interface that was opened last (iPXE, `last_opened_netdev`): iPXE closes all others before it boots from one, so it
/// is the one that booted, where `net0` would be the first in the machine. Facts may hold a character that no HTTP server takes,
/// such as `<`: then the machine asks once more without them.
pub const BOOT_SCRIPT: &str = "\
#!ipxe
:ask
chain --replace --autofree --timeout 60000 /boot/${netX/mac:hexhyp}.ipxe?uuid=${uuid}&serial=${serial:uristring}&manufacturer=${manufacturer:uristring}&product=${product:uristring}&arch=${buildarch}&platform=${platform} ||
chain --replace --autofree --timeout 60000 /boot/${netX/mac:hexhyp}.ipxe ||
echo clusterducks: the server does not answer, trying again ...
sleep 3
goto ask
";

/// A Linux device whose root is put together by its initrd.
#[derive(Debug, Clone)]
pub struct LinuxBoot<'a> {
    /// The device.
    pub device: &'a DeviceName,
    /// The card that it booted from.
    pub mac: Mac,
    /// Its static address.
    pub address: Ipv4Addr,
    /// Its netmask.
    pub netmask: Ipv4Addr,
    /// Its default gateway.
    pub gateway: Option<Ipv4Addr>,
    /// The group whose image it boots.
    pub group: &'a GroupName,
    /// The generation.
    pub generation: u32,
    /// The boot.
    pub boot: &'a BootId,
    /// Its token.
    pub token: &'a str,
    /// How it reaches the server again.
    pub base_url: &'a str,
    /// What the initrd does when it can't go on.
    pub on_failure: OnFailure,
    /// What the group adds to the command line.
    pub kernel_arguments: &'a str,
}

/// The script of a Linux device. The EFI stub finds the initrd by the name that `initrd=` gives.
///
/// # Errors
/// When the group's arguments can't go into a script, or are too long.
pub fn render_linux(linux: &LinuxBoot<'_>) -> Result<String, Error> {
    let command_line = command_line(linux)?;
    let LinuxBoot { device, group, generation, boot, .. } = linux;
    let files = format!("/files/{group}/{generation}");
    Ok(format!(
        "#!ipxe
echo clusterducks: {device} boots {group} g{generation}
kernel --name kernel --timeout 30000 {files}/vmlinuz?boot={boot} {command_line} || goto failed
initrd --name initrd --timeout 30000 {files}/initrd?boot={boot} || goto failed
boot || goto failed
:failed
echo clusterducks: the image could not be started, trying again ...
imgfree kernel ||
imgfree initrd ||
{AGAIN}"
    ))
}

fn command_line(linux: &LinuxBoot<'_>) -> Result<String, Error> {
    let LinuxBoot { device, mac, address, netmask, base_url, token, .. } = linux;
    let gateway = linux.gateway.map(|gateway| gateway.to_string()).unwrap_or_default();
    let on_failure = match linux.on_failure {
        OnFailure::Retry => "retry",
        OnFailure::Shell => "shell",
        OnFailure::Reboot => "reboot",
    };
    let mut line = format!(
        "initrd=initrd root=clusterducks ip={address}::{gateway}:{netmask}:{device}:cdboot:none ifname=cdboot:{mac} \
         cd.server={base_url} cd.token={token} cd.onfail={on_failure}"
    );
    for word in linux.kernel_arguments.split_ascii_whitespace() {
        line.push(' ');
        line.push_str(argument("the group's kernel arguments", word)?);
    }
    if line.len() < COMMAND_LINE_BYTES { Ok(line) } else { Err(Error::CommandLine(line.len())) }
}

/// A device that boots its own clone by iSCSI. iPXE describes the disk in the iBFT, with the secrets, for the system to find.
///
/// # Errors
/// When a secret can't go into a script.
pub fn render_sanboot(
    device: &DeviceName,
    server: Ipv4Addr,
    target: &Iqn,
    chap: &Chap,
) -> Result<String, Error> {
    let what = "a CHAP secret";
    let user = argument(what, &chap.user)?;
    let password = argument(what, chap.password.reveal())?;
    let target_user = argument(what, &chap.target_user)?;
    let target_password = argument(what, chap.target_password.reveal())?;
    let initiator = Iqn::initiator(device);
    Ok(format!(
        "#!ipxe
echo clusterducks: {device} boots its own disk
set initiator-iqn {initiator}
set username {user}
set password {password}
set reverse-username {target_user}
set reverse-password {target_password}
sanboot iscsi:{server}::3260:0:{target} ||
echo clusterducks: the disk could not be started, trying again ...
{AGAIN}"
    ))
}

/// A menu; an entry asks for the script of its number.
pub fn render_menu(menu: &Menu, mac: Mac) -> String {
    let mut script = format!("#!ipxe\n:menu\nmenu -- {}\n", shown(&menu.title));
    for (number, entry) in menu.entries.iter().enumerate() {
        script.push_str(&format!("item -- {number} {}\n", shown(&entry.label)));
    }
    let default = if menu.default < menu.entries.len() { menu.default } else { 0 };
    let timeout = match menu.timeout_s {
        0 => String::new(),
        seconds => format!(" --timeout {}", u64::from(seconds) * 1000),
    };
    let mac = mac.hyphens();
    script.push_str(&format!(
        "choose --default {default}{timeout} entry || goto menu
chain --replace --autofree --timeout 60000 /boot/{mac}.ipxe?entry=${{entry}} || goto menu
"
    ));
    script
}

/// Leaves the network boot, so that the machine goes on with its own disk.
///
/// A BIOS is not trusted to go on by itself: its first disk is started. UEFI goes on with its next boot option when this one
/// says that it failed, and would show its own menu if it said that it succeeded (UEFI 2.10, 3.1.1).
pub const LOCAL_DISK_SCRIPT: &str = "\
#!ipxe
iseq ${platform} efi && exit 1 ||
sanboot --no-describe --drive 0x80 ||
exit 1
";

/// Opens iPXE's shell; `exit` there goes back to the start.
pub fn render_shell() -> String {
    format!("#!ipxe\nshell ||\n{AGAIN}")
}

/// Restarts the machine.
pub const REBOOT_SCRIPT: &str = "#!ipxe\nreboot\n";

/// What a machine shows that is not known.
pub fn render_waiting(machine: &Discovered) -> String {
    let facts = [&machine.manufacturer, &machine.product, &machine.serial];
    let facts: Vec<String> =
        facts.iter().filter(|fact| !fact.is_empty()).map(|fact| shown(fact)).collect();
    let facts = if facts.is_empty() { "unknown make".to_owned() } else { facts.join(", ") };
    let mac = machine.mac;
    format!(
        "#!ipxe
echo
echo clusterducks: this machine is not known yet.
echo -- {mac} ({facts})
echo Approve it in the console; it goes on by itself.
sleep 3
chain --replace --autofree --timeout 15000 /boot.ipxe ||
{AGAIN}"
    )
}

/// What a machine shows that can't boot now. It tries again.
pub fn render_failure(message: &str) -> String {
    let message = shown(message);
    format!("#!ipxe\necho\necho -- clusterducks: {message}\n{AGAIN}")
}

/// What a machine shows that asks from an address which is not the device's. One that was just approved has an address for
/// unknown machines still; the interface that it booted from goes by the name of `netX` (iPXE, find_netdev).
pub fn render_wrong_address(message: &str) -> String {
    let message = shown(message);
    format!(
        "#!ipxe
echo
echo -- clusterducks: {message}
:again
sleep 2
dhcp netX ||
chain --replace --autofree --timeout 15000 /boot.ipxe || goto again
"
    )
}

/// A text for the screen. iPXE's console is ASCII in 1.21.1; what it would take for a setting, a comment, a continuation or
/// the end of a command is changed.
pub fn shown(text: &str) -> String {
    let plain = clean(text, SHOWN_CHARACTERS);
    let word = |word: &str| match word {
        "||" | "&&" | ";" => "/".to_owned(),
        _ if word.starts_with('#') => format!("'{word}"),
        _ => word.to_owned(),
    };
    let ascii = |c: char| match c {
        '{' => '(',
        '}' => ')',
        '\\' => '/',
        c if c.is_ascii() => c,
        _ => '?',
    };
    let plain: String = plain.chars().map(ascii).collect();
    plain.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

/// A word that has to reach the device as it is, or not at all.
fn argument<'a>(what: &'static str, text: &'a str) -> Result<&'a str, Error> {
    let fine = !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_graphic() && !b"{}\\".contains(&b))
        && !text.starts_with('#')
        && !["||", "&&", ";"].contains(&text);
    if fine { Ok(text) } else { Err(Error::Character { what }) }
}
